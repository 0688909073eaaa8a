"""Every reader that needs no paddle: the modules below put theirs into ``READERS``."""
import fuzz_config_readers
import fuzz_data_readers
import fuzz_importer_readers
import fuzz_road_readers
from fuzz_reader import READERS

__all__ = ["READERS", "fuzz_config_readers", "fuzz_data_readers", "fuzz_importer_readers", "fuzz_road_readers"]
