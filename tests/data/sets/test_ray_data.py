"""Shards are read by Ray Data without our code, as docs/data.md says."""

import numpy as np
import pyarrow as pa
import pytest

from transvae_platform.data.sets.shards import image_field, write_shard


@pytest.mark.slow
def test_ray_data_reads_shards_with_the_recipe_of_the_documentation(tmp_path):
    import ray

    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    for number in range(2):
        rows = slice(6 * number, 6 * number + 6)
        columns = {"item": pa.array(range(12)[rows]), "label": pa.array(range(12)[rows], pa.int32())}
        write_shard(tmp_path / f"train-{number}.arrow", "train", {image_field(8): images[rows]}, columns)

    def tables(batch):
        for path in batch["path"]:
            with pa.memory_map(str(path)) as file:
                yield pa.ipc.open_file(file).read_all()

    ray.init(num_cpus=1, include_dashboard=False)
    try:
        paths = ray.data.from_items([{"path": str(path)} for path in sorted(tmp_path.glob("*.arrow"))])
        rows = paths.map_batches(tables, batch_size=1).take_all()
    finally:
        ray.shutdown()
    assert sorted(row["label"] for row in rows) == list(range(12))
    for row in rows:
        assert (np.frombuffer(row["image"], np.uint8).reshape(8, 8, 3) == images[row["item"]]).all()
