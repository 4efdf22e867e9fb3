// Who touched which bytes of one piece of memory last, and whether the next access comes after it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "fake_driver/vector_clock.h"

namespace fake {

struct Work;

struct Access {
  Actor actor = the_host;
  std::uint64_t step = 0;      // of the actor; 0: no access
  std::shared_ptr<Work> work;  // null for what the host does
};

class Shadow {
 public:
  // Notes an access to [begin, end) by `access`, which knows `known`. Earlier accesses to the same
  // bytes, where one of the two writes, go to `unordered` if the new one does not come after them,
  // else to `before`.
  void touch(std::size_t begin, std::size_t end, bool write, const Access& access,
             const VectorClock& known, std::vector<Access>& unordered, std::vector<Access>& before);

 private:
  struct Bytes {
    std::size_t end = 0;
    Access write;
    std::vector<Access> reads;  // since the write; one for each actor
  };

  void split(std::size_t at);
  void fill_gaps(std::size_t begin, std::size_t end);

  std::map<std::size_t, Bytes> bytes_;  // by first byte; no overlap
};

// Who used a mapping or registration as a whole: the last step of each actor.
class Uses {
 public:
  void add(const Access& access);
  // One that `known` does not come after; null if there is none.
  const Access* not_known(const VectorClock& known) const;
  double finished_seconds() const;

 private:
  std::map<Actor, Access> last_;
};

}  // namespace fake
