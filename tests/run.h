// run.h -- what the test programs of one suite end with: the suite is run, and the exit status says how it went.
#include <check.h>
#include <stdlib.h>

static int run_suite(Suite *s) {
    SRunner *run = srunner_create(s);
    srunner_run_all(run, CK_NORMAL);
    int failed = srunner_ntests_failed(run);
    srunner_free(run);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
