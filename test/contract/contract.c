/* SPDX-License-Identifier: Apache-2.0 */
/* The one table of contract tests. */
#include "contract.h"

#include <stdlib.h>
#include <string.h>

bool fixture_init(struct fixture *f)
{
    fixture_env(f);
    return CHECK_STATUS(over_open(&f->env, &f->store), CR_OK);
}

void fixture_fini(struct fixture *f)
{
    cr_store_destroy(f->store);
    over_close();
}

int main(int argc, char **argv)
{
    const struct contract_part parts[] = {
        contract_sessions, contract_login,    contract_endings, contract_log,
        contract_engines,  contract_accounts, contract_leases,  contract_debts,
        contract_batches,  contract_keys,     contract_past,    contract_resets,
    };
    struct tap_test tests[200];
    size_t count = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (count + parts[i].count > sizeof tests / sizeof tests[0])
            abort();
        memcpy(&tests[count], parts[i].tests, parts[i].count * sizeof tests[0]);
        count += parts[i].count;
    }
    return tap_main(tests, count, argc, argv);
}
