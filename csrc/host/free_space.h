// The free extents of a range of offsets: taken by best fit, joined with their neighbours when they
// are given back.
//
// Contract
// - For one thread at a time.
// - Exact: an extent is as long as was asked for, nothing is rounded.
// - give allocates nothing and cannot fail: taking the extent made what giving it back needs. The
//   others may throw std::bad_alloc and have changed nothing then.
//
// Σ bytes of free extents == free_bytes(); no two free extents touch.
// spares_.size() == extents taken and not given back
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace swapmem {

struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

class FreeSpace {
 public:
  void add(Extent extent);     // space that was not part of it
  bool remove(Extent extent);  // takes it out of the space; false if it is not one free extent

  // The smallest free extent that holds so many bytes, cut to them; none if there is none.
  std::optional<Extent> take(std::uint64_t bytes);
  // The largest free extent, cut to so many bytes if it is larger; none if nothing is free.
  std::optional<Extent> take_largest(std::uint64_t bytes);
  void give(Extent extent) noexcept;

  std::uint64_t free_bytes() const { return free_bytes_; }

 private:
  using ByOffset = std::map<std::uint64_t, std::uint64_t>;            // offset -> bytes
  using ByBytes = std::set<std::pair<std::uint64_t, std::uint64_t>>;  // (bytes, offset)
  struct Nodes {
    ByOffset::node_type by_offset;
    ByBytes::node_type by_bytes;
  };

  static Nodes make_nodes();
  void make_place_for_spare();
  Extent cut(ByBytes::iterator from, std::uint64_t bytes);
  Nodes unlink(ByOffset::iterator extent) noexcept;
  void link(Nodes nodes, Extent extent) noexcept;

  std::uint64_t free_bytes_ = 0;
  ByOffset by_offset_;
  ByBytes by_bytes_;
  std::vector<Nodes> spares_;
};

}  // namespace swapmem
