#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every atomic access says its order and its partner, and became the instruction that its order needs.

x86 never shows a missing release or acquire; aarch64 has instructions of its own for them. So the
files with atomic accesses are compiled for aarch64 and disassembled, and each access is looked up
there, in every copy that the compiler made of it. Speaks TAP, and prints the table of all labels.

The convention, which src/cache/README.md uses: a comment that begins with `name:A.` (or `name:A,
name:B.`) labels the next access (or the next two). It says `relaxed` if and only if the access is;
anything else acquires or releases. It names its partners, `Pairs with other:A, third:B`, who name it
back; `by way of carrier:A` names an access that carries the order for a relaxed one. `Alone` where
there is no partner. In src/cache every access has a label; elsewhere those that are not relaxed.
No access takes an order by default, and there are no fences: ThreadSanitizer does not follow them.

Where an access is, which order and width it has, comes from clang's unoptimised code, one
instruction for each access of the source; what became of it, from objdump's line numbers.

usage: check_order.py [--root DIRECTORY] [--only FOLDER] [--quick]
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEGMENT = "src/cache/"  # what other processes map; everything in it is labelled

FLAGS = ["-std=c17", "-D_GNU_SOURCE", "-DCR_VERSION=\"0\"", "-Iinclude", "-Isrc", "-fvisibility=hidden",
         "-fstack-protector-strong", "-g", "-idirafter", "/usr/include"]
CLANG = ["clang", "--target=aarch64-linux-gnu", *FLAGS]
GCC = ["aarch64-linux-gnu-gcc", *FLAGS]
BUILDS = {"gcc -O2": [*GCC, "-O2"], "gcc -O3": [*GCC, "-O3"], "clang -O2": [*CLANG, "-O2"]}

COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
CALL = re.compile(r"\b(atomic_(?:load|store|exchange|compare|fetch|thread|signal|flag|init)\w*|"
                  r"__(?:c11_)?atomic_\w+|__sync_\w+)\s*\(")
ONE_LABEL = r"[a-z][a-z0-9_]*:[A-Z]"
LABELS = re.compile(rf"({ONE_LABEL}(?:(?:,| and) (?:{ONE_LABEL}|[A-Z]\b))*)\.")
PARTNERS = re.compile(r"\bPairs? with ([^.;]*)")

IR_ATOMIC = re.compile(r"^\s+(?:%\S+ = )?(?:(load|store) atomic (?:volatile )?(\S+?),? .*?|(atomicrmw|cmpxchg|fence) .*?)"
                       r"(monotonic|acquire|release|acq_rel|seq_cst)\b.*?!dbg (!\d+)")
IR_CALL = re.compile(r"^\s+(?:%\S+ = )?(?:tail )?call .*?@([\w.]+)\(.*!dbg (!\d+)")
IR_NODE = re.compile(r"^(!\d+) = (?:distinct )?!(DI\w+)\((.*)\)$")
IR_ORDER = {"monotonic": "relaxed"}

INSTRUCTION = re.compile(r"^\s*[0-9a-f]+:\t(\S+)(?:\s+(.*))?$")
LINE = re.compile(r"^(inlined by )?(/\S+?):(\d+)(?: \(.*\))?$")
ORDERED = re.compile(r"(ldapu?r|ldar|ldlar|stlu?r|stllr|ldxr|ldaxr|ldxp|ldaxp|stxr|stlxr|stxp|stlxp|cas|swp|"
                     r"ld(?:add|clr|eor|set|smax|smin|umax|umin)|dmb|dsb)")
SUFFIX = {8: "b", 16: "h", 32: "", 64: ""}


@dataclasses.dataclass
class Access:
    """One call in the source."""
    file: str
    first: int  # lines
    last: int
    call: str
    orders: list
    label: str = None
    bits: int = 0  # from the compiler
    kind: str = None  # load, store, atomicrmw, cmpxchg
    function: str = None

    def where(self):
        return f"{self.file}:{self.first}"


@dataclasses.dataclass
class Label:
    """What the comment says."""
    where: str
    siblings: list  # the labels that the same comment gives
    partners: list
    carriers: list
    relaxed: bool
    alone: bool
    access: Access = None


# ---- the source


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def call_end(code, opening):
    depth = 0
    for at in range(opening, len(code)):
        depth += {"(": 1, ")": -1}.get(code[at], 0)
        if depth == 0:
            return at
    return len(code) - 1


def labels_in(text):
    """`a:A, B and c:A` names a:A, a:B, c:A."""
    found = []
    for word in re.findall(rf"{ONE_LABEL}|\b[A-Z]\b", text):
        found.append(word if ":" in word else f"{found[-1].split(':')[0]}:{word}" if found else word)
    return found


def comment_text(comment):
    return " ".join(re.sub(r"^\s*/?\*+/?|\*/$", "", line).strip() for line in comment.splitlines()).strip()


def read_comment(comment, where):
    """The labels that a comment gives, or none."""
    text = comment_text(comment)
    head = LABELS.match(text)
    if not head:
        return None
    partners, carriers = [], []
    for found in PARTNERS.finditer(text):
        direct, _, carried = found.group(1).partition("by way of")
        partners += labels_in(direct)
        carriers += labels_in(carried)
    return Label(where, labels_in(head.group(1)), partners, carriers,
                 re.search(r"\brelaxed\b", text, re.IGNORECASE) is not None,
                 re.search(r"\bAlone\b", text) is not None)


def read_source(root, file, labels, complaints):
    """All calls of one file; what its comments say goes into `labels`."""
    text = (root / file).read_text(encoding="utf-8")
    code, comments = list(text), []
    for found in COMMENT.finditer(text):
        if found.group(0).startswith("/"):
            comments.append((found.start(), found.group(0)))
        for at in range(found.start(), found.end()):
            if code[at] != "\n":
                code[at] = " "
    code = "".join(code)
    events = [(start, "comment", comment) for start, comment in comments]
    events += [(found.start(), "call", found) for found in CALL.finditer(code)]
    events += [(found.start(), "end", None) for found in re.finditer(r"^}", code, re.MULTILINE)]
    accesses, waiting = [], []
    for start, what, content in sorted(events, key=lambda event: event[0]):
        where = f"{file}:{line_of(text, start)}"
        if what == "comment":
            label = read_comment(content, where)
            if label is None:
                continue
            for name in waiting:
                complaints.append(f"{labels[name].where}: no access follows {name}")
            waiting = []
            for name in label.siblings:
                if name in labels:
                    complaints.append(f"{where}: {name} is already at {labels[name].where}")
                    continue
                labels[name] = dataclasses.replace(label)
                waiting.append(name)
        elif what == "call":
            end = call_end(code, content.end() - 1)
            orders = re.findall(r"\bmemory_order_(\w+)", code[start:end])
            access = Access(file, line_of(text, start), line_of(text, end), content.group(1), orders)
            if waiting:
                access.label = waiting.pop(0)
                labels[access.label].access = access
            accesses.append(access)
        else:
            for name in waiting:
                complaints.append(f"{labels[name].where}: no access follows {name}")
            waiting = []
    return accesses


def source_complaints(accesses):
    for access in accesses:
        if "fence" in access.call:
            yield f"{access.where()}: a fence; order belongs on an access"
        elif not access.call.endswith("_explicit"):
            if access.call != "atomic_init" or access.file.startswith(SEGMENT):
                yield f"{access.where()}: {access.call} takes an order by default; say which"
        elif not access.orders:
            yield f"{access.where()}: {access.call} has an order that is not written there"
        elif access.label is None and (access.file.startswith(SEGMENT) or set(access.orders) != {"relaxed"}):
            yield f"{access.where()}: {access.call} ({', '.join(access.orders)}) has no label"


def orders_of(label):
    return label.access.orders if label.access is not None else []


def has_order(labels, name, kind):
    """Whether it acquires (a load) or releases (a store)."""
    label = labels.get(name)
    return label is not None and label.access is not None and kind in label.access.call and orders_of(label) != ["relaxed"]


def label_complaints(labels):
    for name, label in labels.items():
        if label.access is None:
            continue
        relaxed = orders_of(label) == ["relaxed"]
        if relaxed and not label.relaxed:
            yield f"{label.access.where()}: {name} is relaxed, and its comment does not say so"
        if not relaxed and label.relaxed:
            yield f"{label.access.where()}: {name} should be relaxed, and is {', '.join(orders_of(label))}"
        if not label.partners and not label.alone:
            yield f"{label.where}: {name} has no partner"
        for other in label.partners + label.carriers:
            if other not in labels or labels[other].access is None:
                yield f"{label.where}: {name} names {other}, which is nowhere"
        known = [labels[other] for other in label.partners if other in labels]
        for other, said in zip([other for other in label.partners if other in labels], known):
            if not set(said.partners) & set(label.siblings):
                yield f"{label.where}: {name} pairs with {other}, which does not name it back"
        if known and not any(name in said.partners for said in known):
            yield f"{label.where}: {name} pairs with {', '.join(label.partners)}; none names it back"
        # Order needs two: a release that nobody acquires promises nothing.
        if not relaxed and not label.alone and known and label.access.kind in ("load", "store"):
            wanted = "store" if label.access.kind == "load" else "load"
            if not any(has_order(labels, other, wanted) for other in label.partners + label.carriers):
                side = "releases" if wanted == "store" else "acquires"
                yield f"{label.access.where()}: no partner of {name} {side}"


# ---- what the compiler was told: one instruction for each access


class Debug:
    """File and line of LLVM's !dbg marks."""

    def __init__(self, text):
        self.nodes = {}
        for line in text.splitlines():
            found = IR_NODE.match(line)
            if found:
                self.nodes[found.group(1)] = (found.group(2), found.group(3))

    @staticmethod
    def field(body, name):
        found = re.search(rf'\b{name}: ("[^"]*"|[^,)]+)', body)
        return found.group(1).strip('"') if found else None

    def function(self, mark):
        """Whose line it is, also where that function was inlined at once."""
        kind, body = self.nodes[mark]
        while kind != "DISubprogram":
            kind, body = self.nodes[self.field(body, "scope")]
        return self.field(body, "name")

    def place(self, mark):
        _, body = self.nodes[mark]
        line = int(self.field(body, "line"))
        scope = self.field(body, "scope")
        while scope is not None:
            kind, inner = self.nodes[scope]
            if kind == "DIFile":
                name = self.field(inner, "filename")
                return name, line
            scope = self.field(inner, "file") or self.field(inner, "scope")
        return None, line


def read_meaning(root, unit):
    """(accesses, calls) of one unit, unoptimised: (file, line, kind, bits, order, function) and
    (file, line, callee)."""
    run = subprocess.run([*CLANG, "-O0", "-S", "-emit-llvm", "-w", unit, "-o", "-"], cwd=root, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"{unit}: clang: {run.stderr.strip()}")
    debug = Debug(run.stdout)
    found_accesses, calls = [], []
    for line in run.stdout.splitlines():
        found = IR_ATOMIC.match(line)
        if found:
            kind, typ, other, order, mark = found.groups()
            bits = 64 if typ is None or typ.endswith("*") or typ == "ptr" else int(typ.strip("i,"))
            found_accesses.append((*debug.place(mark), kind or other, bits, IR_ORDER.get(order, order),
                                   debug.function(mark)))
            continue
        found = IR_CALL.match(line)
        if found and not found.group(1).startswith("llvm."):
            calls.append((*debug.place(found.group(2)), found.group(1)))
    return found_accesses, calls


def match_meaning(root, accesses, meaning):
    """Tells each call its kind and width; complains about what the source does not say."""
    for file, line, kind, bits, order, function in meaning:
        name = str((root / file).resolve().relative_to(root)) if file else "?"
        here = [access for access in accesses if access.file == name and access.first <= line <= access.last]
        if not here:
            yield f"{name}:{line}: an atomic {kind} ({order}) that is not written as a call: it takes its order by default"
            continue
        access = here[0]
        access.kind, access.bits, access.function = kind, bits, function
        if order not in access.orders and access.orders:
            yield f"{access.where()}: written as {', '.join(access.orders)}, and is {order}"


# ---- what became of it


@dataclasses.dataclass
class Instruction:
    name: str
    operands: str
    file: str
    line: int
    caller: tuple  # (file, line) that it was inlined into, or None


def disassemble(root, unit, command, folder):
    target = pathlib.Path(folder) / (unit.replace("/", "_") + ".o")
    run = subprocess.run([*command, "-w", "-c", unit, "-o", str(target)], cwd=root, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"{unit}: {command[0]}: {run.stdout.strip()}")
    run = subprocess.run(["aarch64-linux-gnu-objdump", "-d", "-l", "-r", "--inlines", "--no-show-raw-insn",
                          str(target)], text=True, stdout=subprocess.PIPE, check=True)
    file, line, callers = None, 0, []
    for text in run.stdout.splitlines():
        place = LINE.match(text)
        if place:
            at = (str(pathlib.Path(place.group(2)).resolve()).removeprefix(f"{root}/"), int(place.group(3)))
            if place.group(1):
                callers.append(at)
            else:
                file, line = at
            continue
        found = INSTRUCTION.match(text)
        if found:
            yield Instruction(found.group(1), (found.group(2) or "").split("//")[0].strip(), file, line,
                              callers[0] if callers else None)
            callers = []
        elif "R_AARCH64_CALL26" in text and re.search(r"__(aarch64_\w+|atomic_\w+|sync_\w+)", text):
            yield Instruction(text.split()[-1], "", file, line, None)


def is_wanted(access, instruction):
    """Whether it is what the access must become."""
    order = access.orders[0]
    if access.kind in ("atomicrmw", "cmpxchg"):  # or a call of libgcc's, which looks what the processor has
        acquires, releases = order in ("acquire", "acq_rel", "seq_cst"), order in ("release", "acq_rel", "seq_cst")
        name = instruction.name
        if name.startswith("__aarch64_"):
            return (not acquires or "_acq" in name) and (not releases or re.search(r"_rel\b", name) is not None)
        return ORDERED.match(name) is not None and (not acquires or name.startswith("ldax") or "a" in name[5:]) and (
            not releases or name.startswith(("ldax", "stlx")) or "l" in name[5:])
    register = "x" if access.bits == 64 else "w"
    if not re.match(rf"{register}(?:\d+|zr)\b", instruction.operands):
        return False
    ordered = {"load": ["ldar"] if order == "seq_cst" else ["ldar", "ldapr", "ldapur"],
               "store": ["stlr", "stlur"]}[access.kind]
    plain = {"load": ["ldr", "ldur"], "store": ["str", "stur"]}[access.kind]
    names = plain if order == "relaxed" else ordered
    return instruction.name in [name + SUFFIX[access.bits] for name in names]


def build_complaints(root, accesses, calls, instructions, counts):
    """`counts` gets, for each label, the instructions that were found."""
    by_place = collections.defaultdict(list)
    for instruction in instructions:
        by_place[instruction.file].append(instruction)
    for access in accesses:
        if access.label is None:
            continue
        if access.kind is None:
            yield f"{access.where()}: {access.label} is no atomic access to the compiler"
            continue
        here = [one for one in by_place[access.file] if access.first <= one.line <= access.last]
        wanted = [one for one in here if is_wanted(access, one)]
        counts[access.label].update(one.name for one in wanted)
        order = access.orders[0]
        if not wanted:
            yield (f"{access.where()}: {access.label} ({order} {access.kind}, {access.bits} bits) became none of its "
                   f"instructions; there: {', '.join(sorted({one.name for one in here})) or 'nothing'}")
            continue
        if order == "relaxed":
            pairs = [one for one in here if one.name in ("ldp", "stp", "ldnp", "stnp")]
            if pairs and len(wanted) < len({one.caller for one in here}):
                yield f"{access.where()}: {access.label} may have been merged: {pairs[0].name} {pairs[0].operands}"
        # Every call of the function that holds the access has a copy, unless one stands by itself.
        if any(one.caller is None for one in wanted):
            continue
        copies = collections.Counter(one.caller for one in wanted)
        for place, number in calls[access.function].items():
            if copies[place] < number:
                yield (f"{place[0]}:{place[1]}: {number} calls of {access.function}, and {copies[place]} instructions "
                       f"for {access.label}")


def stray_complaints(accesses, instructions):
    for instruction in instructions:
        if not (ORDERED.match(instruction.name) or instruction.name.startswith("__")):
            continue
        here = [access for access in accesses
                if access.file == instruction.file and access.first <= instruction.line <= access.last]
        if instruction.name.startswith(("dmb", "dsb")):
            yield f"{instruction.file}:{instruction.line}: a barrier ({instruction.name}) that no access asks for"
        elif not here:
            yield f"{instruction.file}:{instruction.line}: {instruction.name}, and no access is written there"


# ---- all of it


@dataclasses.dataclass
class Result:
    labels: dict
    tests: list  # (name, complaints)
    counts: dict  # build -> label -> Counter


def source_files(root, only):
    files = [path for path in sorted((root / "src").glob("**/*.[ch]"))
             if CALL.search(path.read_text(encoding="utf-8")) or "_Atomic" in path.read_text(encoding="utf-8")]
    names = [str(path.relative_to(root)) for path in files]
    return [name for name in names if name.startswith(only)]


def check(root, only="src/", builds=None, compiled=None):
    """`compiled`: another tree, whose instructions are looked at instead (so that the test of this tool can see
    that they are looked at)."""
    root = pathlib.Path(root).resolve()
    compiled = pathlib.Path(compiled or root).resolve()
    labels, accesses, written = {}, [], []
    files = source_files(root, only)
    for file in files:
        accesses += read_source(root, file, labels, written)
    units = [file for file in files if file.endswith(".c")]
    # A unit sees headers: what stands there is one access for all.
    with concurrent.futures.ThreadPoolExecutor(2) as pool, tempfile.TemporaryDirectory() as folder:
        meanings = list(pool.map(lambda unit: read_meaning(root, unit), units))
        written += sorted({line for found, _ in meanings for line in match_meaning(root, accesses, found)})
        calls = collections.defaultdict(collections.Counter)
        seen = set()
        for _, found in meanings:
            counted = collections.Counter((function, (file, line)) for file, line, function in found)
            for (function, place), number in counted.items():
                if (function, place) not in seen:
                    calls[function][place] = number
                    seen.add((function, place))
        written += list(source_complaints(accesses))
        tests = [("every_access_says_its_order_and_has_a_label", written),
                 ("every_label_has_a_partner_who_names_it_back", list(label_complaints(labels)))]
        counts = {}
        for build, command in (BUILDS if builds is None else builds).items():
            place = pathlib.Path(folder) / build.replace(" ", "_")
            place.mkdir()
            found = list(pool.map(lambda unit: list(disassemble(compiled, unit, command, place)), units))
            instructions = [one for part in found for one in part]
            counts[build] = collections.defaultdict(collections.Counter)
            lines = list(build_complaints(root, accesses, calls, instructions, counts[build]))
            lines += sorted(set(stray_complaints(accesses, instructions)))
            tests.append((f"every_labelled_access_became_its_instruction ({build})", lines))
    return Result(labels, tests, counts)


def table(result):
    """One line for each label, for people."""
    yield f"{'label':<20} {'access':<15} {'where':<26} {'partners':<48} " + " | ".join(result.counts)
    for name, label in sorted(result.labels.items()):
        if label.access is None:
            continue
        partners = ", ".join(label.partners) + (f" via {', '.join(label.carriers)}" if label.carriers else "")
        found = []
        for counter in result.counts.values():
            found.append(", ".join(f"{number} {one}" for one, number in sorted(counter[name].items())) or "none")
        kind = f"{','.join(label.access.orders)} {label.access.kind}"
        yield f"{name:<20} {kind:<15} {label.access.where():<26} {partners or 'alone':<48} " + " | ".join(found)


def main():
    parser = argparse.ArgumentParser(description="Memory order, from the comment to the instruction.")
    parser.add_argument("--root", default=ROOT, help="another tree")
    parser.add_argument("--only", default="src/", help="only files whose path begins so")
    parser.add_argument("--quick", action="store_true", help="only the first build")
    arguments = parser.parse_args()
    builds = dict(list(BUILDS.items())[:1]) if arguments.quick else BUILDS
    result = check(arguments.root, arguments.only, builds)
    for line in table(result):
        print(f"# {line}")
    print(f"1..{len(result.tests)}")
    failed = False
    for number, (name, lines) in enumerate(result.tests, 1):
        for line in lines:
            print(f"# {line}")
        print(f"{'not ok' if lines else 'ok'} {number} - {name}", flush=True)
        failed = failed or bool(lines)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
