"""Outputs appear whole or not at all."""

import pytest

from spinet_tf import SpinetError
from spinet_tf.files import replacing


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "map.tif"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == ".tif"
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["map.tif"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_when_the_block_fails(tmp_path, error):
    path = tmp_path / "map.tif"
    path.write_text("before")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["map.tif"]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "scene"
    path.mkdir()
    (path / "old").touch()
    with replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert [p.name for p in path.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["scene"]


def test_an_existing_output_is_kept_unless_it_may_be_replaced(tmp_path):
    path = tmp_path / "map.tif"
    path.write_text("before")
    with pytest.raises(SpinetError, match=r"exists already\..* --overwrite"), replacing(path, overwrite=False):
        pytest.fail("the block ran")
    assert path.read_text() == "before"


@pytest.mark.parametrize("folder", [True, False])
def test_a_folder_and_a_file_do_not_replace_each_other(tmp_path, folder):
    path = tmp_path / "output"
    path.mkdir() if folder else path.touch()
    with pytest.raises(SpinetError, match="would replace it"), replacing(path) as temporary:
        temporary.touch() if folder else temporary.mkdir()
    assert path.is_dir() == folder


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpinetError, match=r"Cannot write .*map\.tif"), replacing(tmp_path / "file" / "map.tif"):
        pytest.fail("the block ran")
