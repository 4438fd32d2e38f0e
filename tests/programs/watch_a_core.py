"""Notice when a core stands still, as a virtual machine's core does while its host serves others.

    python watch_a_core.py CORE

The program sleeps on that core. It prints the start and the end of each sleep that was too long, and first subtracts
the time that it waited for the core.
"""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from fix_lag import waited_for_a_core

parent = os.getppid()
os.sched_setaffinity(0, {int(sys.argv[1])})
print("ready", flush=True)
while os.getppid() == parent:
    start, waited = time.perf_counter() + 0.005, waited_for_a_core()
    time.sleep(0.005)
    end = time.perf_counter() - (waited_for_a_core() - waited)
    if end - start > 0.01:
        print(start, end, flush=True)
