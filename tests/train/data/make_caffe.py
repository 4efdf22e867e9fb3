"""Makes caffe_encoded and caffe_raw as Caffe's convert_imageset does, with Caffe's own code.

pip install kendryte-caffe==1.0.0.20210829 'numpy<1.24' 'protobuf<3.21' pillow   # Python 3.8
python tests/train/data/make_caffe.py

That package is Caffe 1.0 without its tools, so their loop is here; Caffe's library reads the
images and writes messages and databases.
"""

import ctypes
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import caffe
from PIL import Image

HERE = Path(__file__).parent
# Name, mode, width, height, label.
IMAGES = [
    ("a/photo 1.png", "RGB", 4, 3, 0),
    ("a/photo 2.png", "L", 2, 5, 0),
    ("b/photo 3.png", "RGB", 5, 2, 1),
    ("c/photo 4.png", "RGB", 1, 1, 400),
]
LOOP = r"""
#include <cstdio>
#include <string>
using std::string;
namespace google { namespace protobuf {
struct Arena { template <class T, class... A> static T* CreateMaybeMessage(Arena*, A&&...); };
struct MessageLite { bool SerializeToString(string*) const; };
}}
namespace caffe {
struct Datum;
bool ReadImageToDatum(const string&, int, int, int, bool, const string&, Datum*);
namespace db {
enum Mode { READ, WRITE, NEW };
struct Transaction {
  virtual ~Transaction();
  virtual void Put(const string&, const string&) = 0;
  virtual void Commit() = 0;
};
struct DB {
  virtual ~DB();
  virtual void Open(const string&, Mode) = 0;
  virtual void Close() = 0;
  virtual void* NewCursor() = 0;
  virtual Transaction* NewTransaction() = 0;
};
DB* GetDB(const string&);
}}
extern "C" void convert(const char* root, const char* encoding, const char* target, int images,
                        const char** names, const int* labels) {
  caffe::db::DB* db = caffe::db::GetDB("lmdb");
  db->Open(target, caffe::db::NEW);
  caffe::db::Transaction* transaction = db->NewTransaction();
  caffe::Datum* datum = google::protobuf::Arena::CreateMaybeMessage<caffe::Datum>(nullptr);
  for (int i = 0; i < images; ++i) {
    char number[16];
    snprintf(number, sizeof number, "%08d", i);
    string value;
    caffe::ReadImageToDatum(string(root) + "/" + names[i], labels[i], 0, 0, true, encoding, datum);
    reinterpret_cast<google::protobuf::MessageLite*>(datum)->SerializeToString(&value);
    transaction->Put(string(number) + "_" + names[i], value);
  }
  transaction->Commit();
  db->Close();
}
"""


def main() -> None:
    library = next(Path(caffe.__file__).parent.glob("_caffe*.so"))
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as root:
        for name, mode, width, height, _ in IMAGES:
            Path(root, name).parent.mkdir(exist_ok=True)
            pixels = bytes(draw.randrange(256) for _ in range(width * height * len(mode)))
            Image.frombytes(mode, (width, height), pixels).save(Path(root, name))
        loop = Path(root, "loop.so")
        command = ["g++", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(loop)]
        subprocess.run(command, input=LOOP.encode(), check=True)
        names = (ctypes.c_char_p * len(IMAGES))(*(image[0].encode() for image in IMAGES))
        labels = (ctypes.c_int * len(IMAGES))(*(image[-1] for image in IMAGES))
        for kind, encoding in (("encoded", "png"), ("raw", "")):
            target = HERE / f"caffe_{kind}"
            shutil.rmtree(target, ignore_errors=True)
            ctypes.CDLL(str(loop)).convert(
                root.encode(), encoding.encode(), str(target).encode(), len(IMAGES), names, labels
            )
            (target / "lock.mdb").unlink()


if __name__ == "__main__":
    main()
