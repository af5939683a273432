"""What children counted is added up once, whatever a killed one left behind."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from orchestration.exporter import Files

#: Beyond the largest id that Linux gives a process.
WHOLE, BROKEN, EMPTY = 4_194_305, 4_194_306, 4_194_307


def counted(folder, pid, **values):
    path = folder / f"counter_{pid}.db"
    kept = MmapedDict(str(path))
    for name, value in values.items():
        kept.write_value(mmap_key(name, f"{name}_total", [], [], "h"), value, 0.0)
    kept.close()
    return path


def test_fold__adds_each_dead_child_once_though_another_left_half_a_file(tmp_path):
    # The broken one comes first wherever the folder lists it: twice over.
    for pid in (BROKEN, BROKEN + 10, BROKEN + 20):
        broken = counted(tmp_path, pid, steps=100.0, more=1.0)
        content = broken.read_bytes()
        broken.write_bytes(content[: int.from_bytes(content[:4], "little") - 12])
    (tmp_path / f"counter_{EMPTY}.db").touch()
    counted(tmp_path, WHOLE, steps=3.0)
    files = Files(tmp_path)
    registry = CollectorRegistry()
    registry.register(files)
    for _ in range(3):
        files.fold()
        assert "steps_total 3.0" in generate_latest(registry).decode()
    assert [path.name for path in tmp_path.iterdir()] == ["counter_0.db"]
