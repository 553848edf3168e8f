"""Counts the test cases of one `bazel test`: count_tests.py EVENTS EXIT_STATUS.

Prints "PASSED FAILED". EVENTS is what --build_event_json_file wrote. Cases come from the test.xml
of each target; a case that was skipped or disabled is neither. A target that fails without naming
a case (it crashed, timed out, or did not build) counts as one failure.
"""

import json
import os
import sys
import urllib.parse
import xml.etree.ElementTree


def cases_of(xml_path):
    """(passed, failed) in a test.xml."""
    passed = failed = 0
    for case in xml.etree.ElementTree.parse(xml_path).getroot().iter("testcase"):
        if case.get("status") == "notrun" or case.get("result") in ("skipped", "suppressed"):
            continue
        if case.find("skipped") is not None:
            continue
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        else:
            passed += 1
    return passed, failed


def cases_of_result(result):
    """(passed, failed) of one run of one target."""
    passed = failed = 0
    for output in result.get("testActionOutput", []):
        path = urllib.parse.unquote(urllib.parse.urlparse(output.get("uri", "")).path)
        if output.get("name") == "test.xml" and os.path.exists(path):
            try:
                passed, failed = cases_of(path)
            except xml.etree.ElementTree.ParseError:
                pass  # Cut off by a crash: the status below says so.
    if result.get("status") in ("PASSED", "FLAKY"):
        return passed, failed
    return passed, max(failed, 1)


def count(events, exit_status):
    """(passed, failed) of a whole run, from its build events."""
    passed = failed = 0
    seen, broken = set(), set()
    for event in events:
        identity = event.get("id", {})
        if "testResult" in event:
            good, bad = cases_of_result(event["testResult"])
            passed, failed = passed + good, failed + bad
            seen.add(identity["testResult"]["label"])
        elif "targetCompleted" in identity:
            if not event.get("completed", {}).get("success"):
                broken.add(identity["targetCompleted"]["label"])
    for label in sorted(broken - seen):
        print("did not build: %s" % label, file=sys.stderr)
    failed += len(broken - seen)
    if exit_status != 0 and failed == 0:
        failed = 1
    return passed, failed


def main():
    events = []
    if os.path.exists(sys.argv[1]):
        with open(sys.argv[1], encoding="utf-8") as file:
            events = [json.loads(line) for line in file if line.strip()]
    print("%d %d" % count(events, int(sys.argv[2])))


if __name__ == "__main__":
    main()
