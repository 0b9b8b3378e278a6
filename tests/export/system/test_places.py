"""Where the commands of the export stage write: folders that are made, staging folders, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchcap.errors import OutputError
from batchcap_export.system import places
from batchcap_export.system.staging import staging_folder


def test_folders_above_a_bundle_are_made_and_go_again_if_it_fails(tmp_path: Path) -> None:
    output = tmp_path / "bundles" / "of mine" / "one"
    places.check_place(output)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError), staging_folder(output, print) as staging:
        assert staging.parent == output.parent
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with staging_folder(output, print) as staging:
        (staging / "bundle").mkdir()
        (staging / "bundle").rename(output)
    assert list(output.parent.iterdir()) == [output]
    with pytest.raises(OutputError, match="one: exists already"):
        places.check_place(output)
    places.check_place(output, run_folder=True)


def test_what_others_put_there_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyError), staging_folder(tmp_path / "bundles" / "one", print):
        (tmp_path / "bundles" / "two").mkdir()
        raise KeyError
    assert (tmp_path / "bundles" / "two").is_dir()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OutputError, match=r"closed/b/c: cannot be written: no permission in .*closed"):
        places.check_place(tmp_path / "closed" / "b" / "c")


def test_a_link_to_nowhere_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputError, match="exists already"):
        places.check_place(tmp_path / "link")
    with pytest.raises(OutputError, match="is no folder"):
        places.check_place(tmp_path / "link" / "bundle")
