# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_import_needs_no_av():
    done = run(
        "import sys\n"
        "for name in ('av', 'cv2', 'PIL'): sys.modules[name] = None\n"
        "import numpy as np, vharm.media as media\n"
        "assert len(list(media.open_reader(np.zeros((2, 4, 4, 3), np.uint8)))) == 2\n"
        "masks = media.open_mask(np.ones((4, 4), bool), width=4, height=4, grow=-1, feather=1)\n"
        "assert next(iter(masks)).unit().min() > 0.999\n"
        "try: media.open_reader(sys.executable)\n"
        "except ImportError as error: print(error)"
    )
    assert done.stderr == ""
    assert 'pip install "vharm[video]"' in done.stdout


def test_public_names_exist():
    import vharm.media as media

    for name in media.__all__:
        assert getattr(media, name) is not None
