"""The devices and processes that a net runs on. The room may import `measure` and `_checks`.

`python -m jaxconv.parallel.launch` starts several processes of one script.
"""

from jaxconv.parallel.batches import data_parallel as data_parallel
from jaxconv.parallel.batches import global_batch as global_batch
from jaxconv.parallel.batches import process_rows as process_rows
from jaxconv.parallel.mesh import check_backend as check_backend
from jaxconv.parallel.mesh import data_mesh as data_mesh
from jaxconv.parallel.mesh import default_devices as default_devices
from jaxconv.parallel.mesh import name_devices as name_devices
from jaxconv.parallel.mesh import replicate as replicate
from jaxconv.parallel.mesh import unreplicate as unreplicate
from jaxconv.parallel.processes import all_max as all_max
from jaxconv.parallel.processes import initialize as initialize
from jaxconv.parallel.processes import is_first as is_first
from jaxconv.parallel.processes import shutdown as shutdown
from jaxconv.parallel.world import AgreedError as AgreedError
from jaxconv.parallel.world import World as World
from jaxconv.parallel.world import name_lost_peer as name_lost_peer
