"""A Ray cluster of several nodes on this machine, until stdin ends.

Prints its address, and for each line `CPUS GPUS` that it is given adds a node and prints its
process numbers as JSON. The head has no cores, so that all work is done on nodes that can be lost.
"""

import json
import os
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster

STORE_BYTES = 80_000_000
NOTICE_SOON = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}  # a lost node


def main():
    options = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
    head = {"num_cpus": 0, "_system_config": NOTICE_SOON, **options}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    print(cluster.address, flush=True)
    for line in sys.stdin:
        cpus, gpus = map(int, line.split())
        node = cluster.add_node(num_cpus=cpus, num_gpus=gpus, **options)
        processes = [info.process.pid for infos in node.all_processes.values() for info in infos]
        print(json.dumps(processes), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
