"""The photos of the demonstration."""

from PIL import Image

from a2mim_mm.data.sample_photos import SHORT_SIDE, export_sample_photos


def test_a_dozen_photos_are_written_once(tmp_path):
    paths = export_sample_photos(tmp_path)
    assert len(paths) == 12 and {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}
    for path in paths:
        with Image.open(path) as photo:
            assert photo.format == 'JPEG' and min(photo.size) == SHORT_SIDE
    paths[0].write_bytes(b'kept')
    paths[1].unlink()
    assert export_sample_photos(tmp_path) == paths
    assert paths[0].read_bytes() == b'kept' and paths[1].exists()
