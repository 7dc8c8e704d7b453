"""`python -m simulation`: run schedules, or show what happened in one."""
import sys
from simulation.world import Simulator
sim = Simulator()
o = sim.run(int(sys.argv[1]), logged=True)
print("\n".join(o.log)); print(o.steps, o.violations and "\n".join(o.violations), o.digest)
