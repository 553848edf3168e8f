"""A check that cannot fail checks nothing: the scripts of .ci/run on good and bad input."""

import copy
import os
import unittest

from tools.ci import check_report, count_tests

RECORD = {
    "epoch": 1,
    "version": "1.1",
    "committed": True,
    "contract": {"buffer_bytes": 10, "install": "staged"},
    "digest": "d",
    "workers": [{"name": "w0", "version": "1.1", "digest": "d", "verified": True}],
}


class CheckReportTest(unittest.TestCase):
    def faults(self, change):
        record = copy.deepcopy(RECORD)
        change(record)
        return check_report.check([record], 1, [10], "staged")

    def test_a_good_report_has_no_fault(self):
        self.assertEqual(self.faults(lambda record: None), [])

    def test_each_fault_is_found(self):
        for change in [
            lambda record: record.update(committed=False),
            lambda record: record.update(digest=""),
            lambda record: record.update(workers=[]),
            lambda record: record["contract"].update(buffer_bytes=11),
            lambda record: record["contract"].update(install="in-place"),
            lambda record: record["workers"][0].update(digest="e"),
            lambda record: record["workers"][0].update(verified=False),
            lambda record: record["workers"][0].update(version="1.0"),
        ]:
            self.assertNotEqual(self.faults(change), [])

    def test_missing_and_repeated_epochs_are_faults(self):
        self.assertNotEqual(check_report.check([RECORD], 2, [10], "staged"), [])
        self.assertNotEqual(check_report.check([RECORD, RECORD], 2, [10], "staged"), [])


class CountTestsTest(unittest.TestCase):
    def result(self, status, cases):
        path = os.path.join(os.environ["TEST_TMPDIR"], "%s.xml" % self.id())
        with open(path, "w", encoding="utf-8") as file:
            file.write("<testsuites><testsuite>%s</testsuite></testsuites>" % cases)
        output = {"name": "test.xml", "uri": "file://" + path}
        return {
            "id": {"testResult": {"label": "//a:a_test"}},
            "testResult": {"status": status, "testActionOutput": [output]},
        }

    def test_counts_cases_that_ran(self):
        cases = (
            "<testcase status='run' result='completed'/>"
            "<testcase status='run'><failure/></testcase>"
            "<testcase status='notrun'/><testcase status='run' result='skipped'/>"
        )
        self.assertEqual(count_tests.count([self.result("FAILED", cases)], 3), (1, 1))

    def test_a_crash_is_a_failure(self):
        event = self.result("FAILED", "<testcase/>")
        self.assertEqual(count_tests.count([event], 3), (1, 1))

    def test_a_target_that_does_not_build_is_a_failure(self):
        event = {"id": {"targetCompleted": {"label": "//a:a_test"}}, "completed": {}}
        self.assertEqual(count_tests.count([event], 1), (0, 1))

    def test_no_events_and_a_bad_status_is_a_failure(self):
        self.assertEqual(count_tests.count([], 37), (0, 1))
        self.assertEqual(count_tests.count([], 0), (0, 0))


if __name__ == "__main__":
    unittest.main()
