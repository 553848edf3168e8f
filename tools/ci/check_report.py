"""Checks the report of //examples:cluster: one JSON object a line, one line an epoch."""

import argparse
import json
import sys


def faults_of_epoch(record, workers, buffer_bytes, install):
    """What is wrong with one line of the report, as sentences."""
    faults = []
    if record["committed"] is not True:
        faults.append("was not committed")
    if record["contract"]["buffer_bytes"] != buffer_bytes:
        faults.append(
            "has buffers of %s bytes, not of %d, the smallest limit"
            % (record["contract"]["buffer_bytes"], buffer_bytes)
        )
    if record["contract"]["install"] != install:
        faults.append("was installed %s, not %s" % (record["contract"]["install"], install))
    if len(record["workers"]) != workers:
        faults.append("names %d workers, not %d" % (len(record["workers"]), workers))
    if not record["digest"]:
        faults.append("has no digest of the trainer")
    for worker in record["workers"]:
        if worker["digest"] != record["digest"]:
            faults.append("worker %s has other bytes than the trainer" % worker["name"])
        if worker["verified"] is not True:
            faults.append("worker %s did not read its memory back" % worker["name"])
        if worker["version"] != record["version"]:
            faults.append("worker %s serves %s" % (worker["name"], worker["version"]))
    return faults


def check(records, epochs, limits, install):
    """All that is wrong with a report."""
    faults = []
    if len(records) != epochs:
        faults.append("%d epochs are reported, not %d" % (len(records), epochs))
    versions = [json.dumps(record["version"]) for record in records]
    if len(set(versions)) != len(versions):
        faults.append("versions repeat: %s" % versions)
    for record in records:
        for fault in faults_of_epoch(record, len(limits), min(limits), install):
            faults.append("epoch %s %s" % (record["epoch"], fault))
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", help="the file that --report wrote")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--limits", required=True, help="bytes, one a worker, with commas")
    parser.add_argument("--install", required=True, choices=["staged", "in-place"])
    options = parser.parse_args()
    with open(options.report, encoding="utf-8") as file:
        records = [json.loads(line) for line in file if line.strip()]
    limits = [int(limit) for limit in options.limits.split(",")]
    faults = check(records, options.epochs, limits, options.install)
    for fault in faults:
        print("check_report: %s" % fault, file=sys.stderr)
    if faults:
        sys.exit(1)
    print("check_report: %d epochs (%s) are good" % (len(records), options.install))


if __name__ == "__main__":
    main()
