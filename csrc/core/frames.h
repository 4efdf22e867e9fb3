// Address ranges and the memory behind those that are not allocated.
//
// Freed blocks keep their memory (warm) for the next array of their size. An array of another size
// takes over the memory of warm blocks, moved behind its own addresses, rather than fresh pages,
// which the system would have to clear.
//
// A block of a frame or more is a head of less than a frame and then whole frames, aligned to them:
//
//     | head | frame | frame | ... |        head + whole frames == capacity_bytes
//
// Frames are taken off the end and only ever become frames again; heads and smaller blocks are
// loose memory, each of one piece. So large memory stays in huge pages, and the number of mappings
// stays below frames + blocks, however long a program runs.
//
// The parts of an array are blocks of one size, whole frames, after a first one for what that
// leaves:
//
//     | head | frame | ... || frame | frame | ... || frame | frame | ... |
//
// Their ranges only ever serve arrays of as many parts together; their memory serves any block.
//
// Threads: the engine's lock protects everything but `apply` and `undo`, which make the device
// calls of a grant and touch only ranges that the grant has taken out of the lists.
//
// Errors: whatever throws, std::bad_alloc too, has changed nothing. What gives back never does.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "core/block.h"
#include "core/block_list.h"
#include "core/budget.h"
#include "core/device.h"
#include "core/size_class.h"

namespace swapmem {

// Memory for one block: what has to be done to the device before it is there.
struct Grant {
  enum class Purpose { array, fill };
  struct Move {
    Address from;
    Address to;
    std::size_t bytes;
    Fences last_use;
  };
  struct Piece {
    Span span;
    Fences last_use;
  };
  struct Donor {
    Block* block;
    std::size_t had_bytes;
  };
  Block* block = nullptr;    // taken out of the lists; fully charged
  bool commit = false;       // (part of) the range has no access yet
  std::vector<Piece> drops;  // memory that is given back, before anything is committed
  std::vector<Move> moves;   // memory of donors that is moved behind the block, or parked
  bool device_work() const { return commit; }  // drops and moves imply it
  std::vector<Donor> donors;                   // out of the lists until their memory has left
  std::vector<Block*> parked;   // cold blocks that take what is left over of the donors
  std::size_t spare_bytes = 0;  // dropped and not needed: charged until the drops are done
};

// The bytes of a part with which every array is one block.
constexpr std::size_t no_parts = std::size_t{1} << 63;

// The blocks that an array is made of.
struct Parts {
  SizeClass first;
  std::size_t further = 0;
  std::size_t further_bytes = 0;  // each of them
  std::size_t bytes() const { return first.bytes + further * further_bytes; }
};

class Frames {
 public:
  // Arrays of more than `part_bytes` have parts; a power of two and a multiple of the frame.
  Frames(Device& device, Budget& budget, std::size_t part_bytes = no_parts);

  std::size_t part_bytes() const { return part_bytes_; }
  // What an array of so many bytes, 1 at least, is made of; each part is of whole units of the
  // device.
  Parts parts_of(std::size_t bytes) const;

  // Bookkeeping of a grant for one block of the class, which becomes `staging`; false, and nothing
  // changed, if the budget has no room and the warm blocks do not hold enough. The block's last_use
  // is then that of all memory it gets. With `part` for this very block; false also while its own
  // memory is on its way elsewhere.
  bool grant(SizeClass size, Grant& out, Block* part = nullptr);

  // The first of adjoining blocks that are nobody's, for an array of several parts. They have to be
  // granted, or given back.
  Block* take_parts(const Parts& parts);
  void put_parts(Block& first) noexcept;

  void apply(const Grant& grant, Grant::Purpose purpose);  // the device calls, without the lock
  void settle(const Grant& grant) noexcept;                // then: the donors can be used again
  // The device calls, without the lock, after apply has thrown.
  void undo(const Grant& grant) noexcept;
  void revoke(const Grant& grant) noexcept;  // then: the block is cold again and uncharged

  Block* take_cold(SizeClass size);
  void put_cold(Block& block) noexcept;  // state becomes cold if it is not
  void put_warm(Block& block) noexcept;  // with all its memory: charged as before

  // Takes the longest waiting warm block out of its list, for trim; nullptr if there is none.
  Block* take_warm();
  void return_warm(Block& block) noexcept;  // it has to wait on

  Block* find(Address address);  // the block whose range holds the address, or nullptr
  std::size_t warm_bytes() const { return warm_bytes_; }
  std::size_t in_flight_bytes() const { return in_flight_bytes_; }
  const std::deque<Block>& blocks() const { return blocks_; }
  const Span& region() const { return region_; }

 private:
  using Pieces = std::vector<Grant::Piece>;

  Block* carve(SizeClass size, bool ends_with_frame = false);
  [[noreturn]] void throw_used_up() const;
  Block* frames_donor(std::size_t need_bytes) const;
  Block* loose_donor(std::size_t need_bytes) const;
  Block* loose_block() const;
  void enlist(Block& donor, Grant& grant);
  Span take_off(Block& donor, std::size_t most_bytes, Pieces& leftovers);
  Grant::Piece take_piece(std::size_t bytes, Pieces& leftovers, Grant& grant);
  std::size_t park(Grant::Piece loose, Grant& grant);
  void collect(std::size_t have, Grant& out);
  void forget(const Grant& grant) noexcept;
  void let_donors_go(const Grant& grant) noexcept;

  Device& device_;
  Budget& budget_;
  const Span region_;
  const std::size_t unit_bytes_;
  const std::size_t frame_bytes_;
  const std::size_t part_bytes_;
  const std::size_t first_large_;     // the class of one frame
  Address next_address_;              // of the part of the region that no block has yet
  std::deque<Block> blocks_;          // addresses of blocks are stable
  std::vector<std::uint32_t> index_;  // by granule of the region: number of the block + 1
  std::array<BlockList, size_class_count> cold_;
  // The longest waiting at the front, where parts go, too: their memory is taken first, since no
  // other array can have their addresses.
  std::array<BlockList, size_class_count> warm_;
  // waiting.capacity() >= arrays, of which there are so many: none is refused.
  struct FirstParts {
    std::vector<Block*> waiting;
    std::size_t arrays = 0;
  };
  std::unordered_map<std::size_t, FirstParts> first_parts_;  // by the bytes of all parts
  std::size_t warm_bytes_ = 0;                               // Σ warm_bytes over warm_
  std::size_t in_flight_bytes_ = 0;  // Σ parked and spare bytes of grants that are being applied
};

}  // namespace swapmem
