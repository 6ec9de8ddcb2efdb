/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated workers: connections that carry real messages, and maps of real tables. */
#include "worker.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/shm.h"
#include "service/request.h"
#include "tap.h"

struct worker_call {
    struct worker_call *next;
    uint16_t op;
    uint64_t number;
    enum worker_repeat repeat;
    bool again;    /* sent more than once */
    bool settling; /* nobody waits for its reply any more, but an agent may be at it */
    cr_boot_ns deadline;
    unsigned reached[SIM_HOSTS_MAX]; /* lives of the agents that got it */
    cr_engine_done *done;
    void *context;
    size_t count;
    unsigned char bytes[];
};

static struct worker *worker_of(struct sim_actor *actor)
{
    return (struct worker *)(void *)actor;
}

static void worker_wrong(struct worker *worker, const char *what)
{
    worker->wrong++;
    tap_note("at %llu, a worker of host %zu: %s", (unsigned long long)worker->sim->now,
             worker->slot, what);
}

static struct sim_host *host_of(const struct worker *worker)
{
    return &worker->sim->hosts[worker->slot];
}

static bool is_stopped(const struct worker *worker)
{
    return worker->stuck || worker->stopped_until > worker->sim->now;
}

/* ---- the network */

static cr_boot_ns network_delay(struct sim *sim)
{
    static const cr_boot_ns most[] = {200000, 200000, 2000000, 60000000};
    return 1000 + sim_below(sim, most[sim->rough ? sim_below(sim, 4) : 0]);
}

static void queue_add(struct worker *worker, struct worker_queue *queue, const void *bytes,
                      size_t count, int fd, uint64_t number)
{
    struct worker_message *message = malloc(sizeof *message + count);
    CR_ASSERT(message != NULL);
    cr_boot_ns due = worker->sim->now + network_delay(worker->sim);
    if (queue->first != NULL && due < queue->last->due)
        due = queue->last->due;
    *message = (struct worker_message){
        .due = due, .number = number, .count = count, .fd = fd >= 0 ? dup(fd) : -1};
    memcpy(message->bytes, bytes, count);
    if (queue->first == NULL)
        queue->first = message;
    else
        queue->last->next = message;
    queue->last = message;
}

static void message_free(struct worker_message *message)
{
    if (message->fd >= 0)
        close(message->fd);
    free(message);
}

static struct worker_message *queue_take(struct worker_queue *queue)
{
    struct worker_message *message = queue->first;
    queue->first = message->next;
    return message;
}

static void queue_drop(struct worker_queue *queue)
{
    while (queue->first != NULL)
        message_free(queue_take(queue));
}

/* The agent's end writes. */
static void agent_send(void *context, const void *bytes, size_t count, int fd)
{
    struct worker *worker = context;
    queue_add(worker, &worker->to_worker, bytes, count, fd, 0);
}

/* ---- the table */

static void map_drop(struct worker *worker)
{
    if (worker->memory != NULL)
        cr_memory_unmap(worker->memory, worker->bytes);
    worker->memory = NULL;
}

/* The descriptor stays the message's. */
static void map_take(struct worker *worker, int fd)
{
    map_drop(worker);
    if (fd < 0)
        return;
    if (cr_shm_map(fd, &worker->memory, &worker->bytes) != CR_OK) {
        worker->memory = NULL;
        worker_wrong(worker, "a table that cannot be mapped");
        return;
    }
    if (cr_table_view_init(&worker->view, worker->memory, worker->bytes) != CR_OK) {
        worker_wrong(worker, "a table that is none");
        map_drop(worker);
    }
    worker->table_slot = worker->slot;
    worker->maps++;
}

bool worker_find(struct worker *worker, const struct cr_session_id *id,
                 const struct cr_token_hash *hash, struct cr_entry *out)
{
    bool used_old;
    return worker->memory != NULL &&
           cr_table_find(&worker->view, &worker->sim->hosts[worker->table_slot].clock, id, hash,
                         out, &used_old);
}

/* One look at a time is stopped: only the page that it reads may be read, so that the next page is
 * a fault, and that a stop. */
static struct stopped_look {
    struct cr_clock clock;
    struct worker *worker;
    unsigned char *map, *open;
    size_t page;
    unsigned stops, at;
    void (*at_stop)(void *context);
    void *context;
} look;

static void look_stop(void)
{
    if (look.stops++ == look.at)
        look.at_stop(look.context);
}

static void page_allow(unsigned char *page, int access)
{
    if (page != NULL && mprotect(page, look.page, access) != 0)
        abort();
}

static void look_fault(int signal_number, siginfo_t *info, void *context)
{
    unsigned char *at = info->si_addr;
    if (look.worker == NULL || at < look.map || at >= look.map + look.worker->bytes) {
        signal(signal_number, SIG_DFL); /* a real one: comes again, and ends the test */
        return;
    }
    look_stop();
    page_allow(look.open, PROT_NONE);
    look.open = look.map + (size_t)(at - look.map) / look.page * look.page;
    page_allow(look.open, PROT_READ);
}

static cr_boot_ns look_boot(struct cr_clock *clock)
{
    look_stop();
    return cr_clock_boot(&look.worker->sim->hosts[look.worker->table_slot].clock);
}

bool worker_find_stopped(struct worker *worker, const struct cr_session_id *id,
                         const struct cr_token_hash *hash, struct cr_entry *out, unsigned stop,
                         void (*at_stop)(void *context), void *context)
{
    const struct sigaction action = {.sa_sigaction = look_fault, .sa_flags = SA_SIGINFO};
    struct sigaction before;
    bool used_old;
    if (worker->memory == NULL)
        return false;
    look = (struct stopped_look){.clock = {.boot = look_boot},
                                 .worker = worker,
                                 .page = (size_t)sysconf(_SC_PAGESIZE),
                                 .at = stop,
                                 .at_stop = at_stop,
                                 .context = context};
    memcpy(&look.map, &worker->memory, sizeof look.map); /* without its const */
    worker->stuck = true;
    sigaction(SIGSEGV, &action, &before);
    bool closed = mprotect(look.map, worker->bytes, PROT_NONE) == 0;
    bool found = closed && cr_table_find(&worker->view, &look.clock, id, hash, out, &used_old);
    CR_ASSERT(mprotect(look.map, worker->bytes, PROT_READ) == 0);
    sigaction(SIGSEGV, &before, NULL);
    worker->stuck = false;
    look.worker = NULL;
    return found;
}

/* ---- calls */

static void call_free(struct worker *worker, struct worker_call *call)
{
    struct worker_call **link = &worker->calls;
    while (*link != call)
        link = &(*link)->next;
    *link = call->next;
    free(call);
}

/* Whether it is on its way to an agent, or one that got it may still be at work on it. */
static bool call_is_open(const struct worker *worker, const struct worker_call *call)
{
    for (const struct worker_message *m = worker->to_agent.first; m != NULL; m = m->next)
        if (m->number == call->number)
            return true;
    for (size_t i = 0; i < SIM_HOSTS_MAX; i++) {
        const struct sim_host *host = &worker->sim->hosts[i];
        if (call->reached[i] == 0 || call->reached[i] != host->life || host->service == NULL)
            continue;
        for (const struct request *r = host->service->requests; r != NULL; r = r->next)
            if (r->number == call->number)
                return true;
    }
    return false;
}

static void call_send(struct worker *worker, const struct worker_call *call)
{
    if (worker->client != NULL && worker->greeted)
        queue_add(worker, &worker->to_agent, call->bytes, call->count, -1, call->number);
}

/* It changes nothing. */
static bool is_look(uint16_t op)
{
    return op == CR_OP_VALIDATE || op == CR_OP_DATA_READ;
}

static bool was_sent(const struct worker_call *call)
{
    for (size_t i = 0; i < SIM_HOSTS_MAX; i++)
        if (call->reached[i] != 0)
            return true;
    return false;
}

static enum cr_status status_without_reply(const struct worker_call *call)
{
    return was_sent(call) && !is_look(call->op) ? CR_E_UNKNOWN_OUTCOME : CR_UNAVAILABLE;
}

static void calls_settle(struct worker *worker)
{
    struct worker_call *next;
    for (struct worker_call *call = worker->calls; call != NULL; call = next) {
        next = call->next;
        if (!call->settling && call->deadline <= worker->sim->now)
            call->settling = true;
        if (!call->settling || call_is_open(worker, call))
            continue;
        call->done(call->context, &(struct cr_engine_answer){.status = status_without_reply(call)});
        call_free(worker, call);
    }
}

uint64_t worker_number(struct worker *worker)
{
    return ++worker->sim->message_numbers;
}

void worker_call(struct worker *worker, struct cr_builder *request, enum worker_repeat repeat,
                 cr_engine_done *done, void *context)
{
    struct cr_message message;
    CR_ASSERT(cr_message_decode(request->bytes, request->count, &message) == CR_OK);
    struct worker_call *call = calloc(1, sizeof *call + request->count);
    CR_ASSERT(call != NULL);
    call->op = message.op;
    call->number = message.request;
    call->repeat = repeat;
    call->deadline = cr_boot_add(worker->sim->now, WORKER_CALL_MS);
    call->done = done;
    call->context = context;
    call->count = request->count;
    memcpy(call->bytes, request->bytes, request->count);
    cr_builder_fini(request);
    call->next = worker->calls;
    worker->calls = call;
    call_send(worker, call);
}

void worker_tell(struct worker *worker, struct cr_builder *message)
{
    if (worker->client != NULL && worker->greeted)
        queue_add(worker, &worker->to_agent, message->bytes, message->count, -1, 0);
    cr_builder_fini(message);
}

/* ---- the connection */

static void connect_to(struct worker *worker, size_t slot)
{
    struct cr_builder hello;
    struct cr_client_options options = {
        .role = worker->role, .label = "sim", .send = agent_send, .context = worker};
    worker->slot = slot;
    worker->greeted = false;
    CR_ASSERT(cr_client_create(host_of(worker)->service, &options, &worker->client) == CR_OK);
    cr_builder_init(&hello, CR_OP_HELLO, CR_OK, worker_number(worker));
    cr_builder_u64(&hello, CR_TAG_VERSION, CR_WIRE_VERSION);
    cr_builder_u64(&hello, CR_TAG_LAYOUT, CR_TABLE_LAYOUT);
    CR_ASSERT(cr_builder_finish(&hello));
    queue_add(worker, &worker->to_agent, hello.bytes, hello.count, -1, 0);
    cr_builder_fini(&hello);
}

static size_t agent_of(const struct worker *worker)
{
    for (size_t i = 0; i < worker->sim->host_count; i++)
        if ((worker->slots >> i & 1) != 0 && worker->sim->hosts[i].alive &&
            worker->sim->hosts[i].service != NULL)
            return i;
    return WORKER_NOWHERE;
}

/* It reads that the agent is gone. The map stays: its lease says for how long. */
static void worker_lost(struct worker *worker)
{
    worker->slot = WORKER_NOWHERE;
    worker->greeted = false;
    worker->retry_at = worker->sim->now + sim_below(worker->sim, 100000000);
    for (struct worker_call *call = worker->calls; call != NULL; call = call->next)
        call->settling = call->settling || (call->repeat == WORKER_GIVE_UP && was_sent(call));
}

void worker_cut(struct worker *worker, bool by_agent)
{
    if (worker->slot == WORKER_NOWHERE)
        return;
    worker->cuts++;
    cr_client_destroy(worker->client);
    worker->client = NULL;
    queue_drop(&worker->to_agent);
    if (!by_agent || sim_below(worker->sim, 2) == 0)
        queue_drop(&worker->to_worker);
}

static void agent_receive(struct worker *worker)
{
    struct worker_message *message = queue_take(&worker->to_agent);
    for (struct worker_call *call = worker->calls; call != NULL; call = call->next)
        if (call->number == message->number)
            call->reached[worker->slot] = host_of(worker)->life;
    if (cr_client_receive(worker->client, message->bytes, message->count) != CR_OK)
        worker_wrong(worker, "its request was not understood");
    message_free(message);
}

static void greeted(struct worker *worker, const struct cr_message *message, int fd)
{
    if (message->status != CR_OK)
        worker_wrong(worker, "its hello was refused");
    worker->greeted = true;
    map_take(worker, fd);
    for (struct worker_call *call = worker->calls; call != NULL; call = call->next) {
        call->again = call->again || was_sent(call);
        worker->repeats += was_sent(call) ? 1 : 0;
        if (!call->settling)
            call_send(worker, call);
    }
}

/* Of a read, which says nothing of the session but its data. */
static void data_of(const struct cr_message *message, struct cr_record *record,
                    struct cr_engine_answer *out)
{
    static unsigned char data[CR_DATA_BYTES_MAX];
    const struct cr_field *field = cr_message_field(message, CR_TAG_DATA);
    if (field == NULL)
        return;
    memcpy(data, field->bytes, field->length);
    *record =
        (struct cr_record){.version = out->version, .data = data, .data_bytes = field->length};
    out->record = record;
}

/* A reply, as the engine would have given it. False: it is not whole. */
static bool answer_of(const struct cr_message *message, struct cr_session *session,
                      struct cr_record *record, struct cr_token *token,
                      struct cr_engine_answer *out)
{
    const struct cr_field *field = cr_message_field(message, CR_TAG_SESSION);
    *out = (struct cr_engine_answer){.status = message->status};
    out->version = cr_message_u64(message, CR_TAG_VERSION, 0);
    out->bound = (cr_span_ms)cr_message_u64(message, CR_TAG_BOUND, 0);
    (void)!cr_message_ending(message, &out->ending);
    if (cr_message_token(message, CR_TAG_TOKEN, token))
        out->token = token;
    session->size = sizeof *session;
    if (field == NULL) {
        data_of(message, record, out);
        return true;
    }
    if (!cr_field_session(field, session))
        return false;
    *record = (struct cr_record){.id = session->id,
                                 .user = session->user,
                                 .created_at = session->created_at,
                                 .ends_at = session->ends_at,
                                 .seen_at = session->seen_at,
                                 .version = session->version,
                                 .rights_bytes = (uint16_t)session->rights_bytes,
                                 .data_bytes = (uint32_t)session->data_bytes};
    memcpy(record->rights, session->rights, session->rights_bytes);
    if (session->data_bytes <= CR_DATA_CACHED_BYTES_MAX)
        record->data = session->data;
    out->record = record;
    out->as_of = (cr_boot_ns)session->as_of * CR_NS_PER_MS;
    return true;
}

static bool has_token(uint16_t op)
{
    return op == CR_OP_LOGIN || op == CR_OP_CREATE || op == CR_OP_ROTATE;
}

static void reply_take(struct worker *worker, struct worker_call *call,
                       const struct cr_message *message)
{
    static struct cr_session session;
    static struct cr_record record;
    struct cr_engine_answer answer;
    struct cr_token token;
    worker->replies++;
    bool needs_session =
        message->status == CR_OK &&
        (call->op == CR_OP_VALIDATE || call->op == CR_OP_LOGIN || call->op == CR_OP_CREATE ||
         call->op == CR_OP_ROTATE || call->op == CR_OP_DATA_READ);
    if (!answer_of(message, &session, &record, &token, &answer) ||
        (needs_session && answer.record == NULL) ||
        (needs_session && has_token(call->op) && answer.token == NULL)) {
        worker_wrong(worker, "a reply that is not whole");
        return;
    }
    /* Who was asked before may still do what this one did not. */
    if (call->again && answer.status != CR_OK && !is_look(call->op)) {
        call->settling = true;
        return;
    }
    call->done(call->context, &answer);
    call_free(worker, call);
}

static void worker_receive(struct worker *worker)
{
    struct worker_message *message = queue_take(&worker->to_worker);
    struct cr_message decoded;
    if (cr_message_decode(message->bytes, message->count, &decoded) != CR_OK) {
        worker_wrong(worker, "a message that is none");
    } else if (decoded.op == CR_OP_HELLO) {
        greeted(worker, &decoded, message->fd);
    } else if (decoded.op == CR_OP_SEGMENT) {
        map_take(worker, message->fd);
    } else {
        for (struct worker_call *call = worker->calls; call != NULL; call = call->next)
            if (call->number == decoded.request && call->op == decoded.op && !call->settling) {
                reply_take(worker, call, &decoded);
                break;
            }
    }
    message_free(message);
}

static bool is_due(const struct worker_queue *queue, cr_boot_ns now)
{
    return queue->first != NULL && queue->first->due <= now;
}

static void worker_step(struct sim_actor *actor)
{
    struct worker *worker = worker_of(actor);
    cr_boot_ns now = worker->sim->now;
    while (worker->client != NULL && is_due(&worker->to_agent, now) && host_of(worker)->alive &&
           !host_of(worker)->paused)
        agent_receive(worker);
    if (is_stopped(worker))
        return;
    while (worker->slot != WORKER_NOWHERE && is_due(&worker->to_worker, now))
        worker_receive(worker);
    if (worker->slot != WORKER_NOWHERE && worker->client == NULL && worker->to_worker.first == NULL)
        worker_lost(worker);
    if (worker->slot == WORKER_NOWHERE && worker->retry_at <= now &&
        agent_of(worker) != WORKER_NOWHERE)
        connect_to(worker, agent_of(worker));
    calls_settle(worker);
}

static cr_boot_ns earlier(cr_boot_ns a, cr_boot_ns b)
{
    return a < b ? a : b;
}

static cr_boot_ns worker_next(const struct sim_actor *actor)
{
    const struct worker *worker = (const struct worker *)(const void *)actor;
    cr_boot_ns next = CR_BOOT_NEVER, now = worker->sim->now;
    if (worker->client != NULL && worker->to_agent.first != NULL && host_of(worker)->alive &&
        !host_of(worker)->paused)
        next = worker->to_agent.first->due;
    if (worker->stuck)
        return next;
    if (worker->stopped_until > now)
        return earlier(next, worker->stopped_until);
    if (worker->to_worker.first != NULL)
        next = earlier(next, worker->to_worker.first->due);
    else if (worker->slot != WORKER_NOWHERE && worker->client == NULL)
        next = now;
    if (worker->slot == WORKER_NOWHERE && agent_of(worker) != WORKER_NOWHERE)
        next = earlier(next, worker->retry_at);
    for (const struct worker_call *call = worker->calls; call != NULL; call = call->next)
        next = earlier(next, call->settling ? now + 20000000 : call->deadline);
    return next;
}

void worker_init(struct worker *worker, struct sim *sim, enum cr_role role, uint64_t slots)
{
    *worker = (struct worker){.actor = {.next_time = worker_next, .step = worker_step},
                              .sim = sim,
                              .role = role,
                              .slots = slots,
                              .slot = WORKER_NOWHERE};
    worker->actor.next = sim->actors;
    sim->actors = &worker->actor;
}

void worker_fini(struct worker *worker)
{
    worker_cut(worker, false);
    queue_drop(&worker->to_worker);
    while (worker->calls != NULL) {
        struct worker_call *call = worker->calls;
        call->done(call->context, &(struct cr_engine_answer){.status = CR_E_UNKNOWN_OUTCOME});
        call_free(worker, call);
    }
    map_drop(worker);
}
