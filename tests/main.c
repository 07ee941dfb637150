// main.c -- runs the suites of the rooms that are tested through their public functions, and those of train.c and
// dev/survey.c, which include them.
// test_model.c and test_grad.c include model.c itself and are programs of their own.
#include <check.h>
#include <stdlib.h>

Suite *tokenizer_suite(void);
Suite *data_suite(void);
Suite *rows_suite(void);
Suite *train_suite(void);
Suite *report_suite(void);
Suite *survey_suite(void);
Suite *edges_suite(void);

int main(void) {
    SRunner *run = srunner_create(tokenizer_suite());
    srunner_add_suite(run, data_suite());
    srunner_add_suite(run, rows_suite());
    srunner_add_suite(run, train_suite());
    srunner_add_suite(run, report_suite());
    srunner_add_suite(run, survey_suite());
    srunner_add_suite(run, edges_suite());
    srunner_run_all(run, CK_NORMAL);
    int failed = srunner_ntests_failed(run);
    srunner_free(run);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
