"""Files are there whole or not at all."""

import hashlib
import json

import pytest

from a2mim_mm.files import package_version, sha256_of, write_json, write_whole


def test_a_file_is_replaced_at_the_end(tmp_path):
    path = tmp_path / 'new' / 'file.txt'
    for text in ('first', 'second'):
        before = path.read_text() if path.exists() else None
        with write_whole(path) as draft:
            draft.write_text(text)
            assert draft.parent == path.parent
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == text
    assert [*path.parent.iterdir()] == [path]


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / 'file.txt'
    path.write_text('old')
    with pytest.raises(ZeroDivisionError), write_whole(path) as draft:
        draft.write_text('half')
        raise ZeroDivisionError
    assert path.read_text() == 'old' and [*tmp_path.iterdir()] == [path]


def test_json_digest_and_version(tmp_path):
    path = tmp_path / 'content.json'
    write_json(path, dict(a=[1, None]))
    assert json.loads(path.read_text()) == dict(a=[1, None]) and path.read_text().endswith('}\n')
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert package_version('torch').startswith('2.') and package_version('no-such-package') is None
