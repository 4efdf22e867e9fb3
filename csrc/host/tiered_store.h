// Pinned memory that overflows to a file: what is written goes to pinned memory, and once that is
// fuller than a mark the oldest of it moves down, in the background.
//
// Contract, beyond store.h
// - A slot is made of pieces, and a piece is in one of the tiers. A slot may be larger than either
//   tier: together they hold what their budgets add up to, to the last page.
// - The pinned memory of a piece is free for others once its bytes are in the file, completely, and
//   the last copy from it has ended. The other way round it is the same.
// - The device's link only ever sees pinned memory: what is in the file goes through buffers that
//   are part of the pinned tier's budget, set aside at construction.
// - Reads never wait for moves. A write waits for the move of its piece. reserve waits for moves
//   while they can still make room. release comes at any time.
// - A move that fails changes nothing: the piece stays where it is. After a failure nothing moves
//   down until reserve lacks room again; then the move is tried once more.
// - soon tells that a slot will be read: what is in the file moves up as far as there is room below
//   the mark. A hint: it moves nothing else down, and a read in the meantime drops it.
// - Threads: its own move pieces, `movers` at once at most. No lock is held across a call of the
//   link or the file or across a wait.
// - Errors: StoreError. ENOSPC with the numbers of both tiers when neither has room.
//
// used_bytes() == Σ bytes of slots <= budget_bytes() == Σ budgets of the tiers
// A tier's used_bytes == Σ bytes of the places in it <= its budget_bytes. A piece has one place,
// and while it moves, or is still read where it was, two; one that was released may have one for as
// long.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/link.h"
#include "core/store.h"
#include "host/free_space.h"
#include "host/pinned_store.h"
#include "host/tier_place.h"

namespace swapmem {

struct TieredOptions {
  // Moved, and read from the file, at once; less if the pinned tier is small. A checksum store
  // below verifies what is read in these pieces.
  std::size_t piece_bytes = std::size_t{2} << 20;
  std::size_t movers = 4;
};

class TieredStore : public Store {
 public:
  // Waits for the first pinned memory. Throws StoreError if there is too little for the buffers.
  TieredStore(std::shared_ptr<Link> link, std::unique_ptr<PinnedStore> pinned,
              std::unique_ptr<Store> file, const TieredOptions& options = {});
  ~TieredStore() override;  // finishes the moves under way; no call may be
  TieredStore(const TieredStore&) = delete;
  TieredStore& operator=(const TieredStore&) = delete;

  Slot reserve(std::size_t bytes) override;
  void release(Slot slot) noexcept override;
  void write(Slot slot, std::size_t offset, const void* from, std::size_t bytes) override;
  void read(Slot slot, std::size_t offset, void* to, std::size_t bytes) override {
    read_queued(slot, offset, to, bytes, {});
  }
  void read_queued(Slot slot, std::size_t offset, void* to, std::size_t bytes,
                   const Queued& queued) override;
  void soon(Slot slot) noexcept override;

  std::size_t used_bytes() const override;
  std::size_t peak_bytes() const override;
  std::size_t budget_bytes() const override;
  std::vector<std::string> notices() const override;
  TierUse pinned_tier() const { return pinned_tier_.use(); }  // without the buffers
  TierUse file_tier() const { return file_tier_.use(); }
  std::size_t piece_bytes() const { return piece_bytes_; }
  // What the buffers take of a pinned tier of so many bytes.
  static std::size_t buffers_bytes(std::size_t pinned_bytes, const TieredOptions& options = {});

  std::size_t trim() override { return pinned_->trim(); }
  void settle();  // until nothing moves and nothing is to be moved

 private:
  using Lock = std::unique_lock<std::mutex>;
  using Place = std::shared_ptr<const TierPlace>;
  struct Entry;

  // A piece that may move down. Each piece owns one such element, in the list while it may move and
  // on its own otherwise, so that listing it asks for no memory.
  struct Candidate {
    Entry* entry;
    std::size_t piece;
  };
  using Candidates = std::list<Candidate>;
  struct Piece {
    std::size_t start = 0;  // in the slot
    std::size_t bytes = 0;
    Place place;  // where the bytes are
    std::size_t writers = 0;
    bool written = false;
    bool moving = false;
    bool listed = false;
    Candidates unlisted;
    Candidates::iterator candidate;
  };
  using Expected = std::list<std::shared_ptr<Entry>>;
  struct Entry {
    std::uint64_t offset = 0;
    std::size_t bytes = 0;
    bool released = false;      // it has no pieces then
    std::vector<Piece> pieces;  // by start
    bool expected = false;
    Expected::iterator expectation;
    std::size_t next_up = 0;  // expected: pieces below have moved up, or need not
  };
  struct Move {
    std::shared_ptr<Entry> entry;
    std::size_t piece;
    std::size_t bytes;
    bool down;  // or up
    Place from;
  };
  struct Share;
  struct Buffer {
    Slot slot;
    std::vector<HostExtent> memory;
  };
  class Borrowed;

  // tiered_store.cpp
  Piece make_piece(std::size_t start, std::size_t bytes);
  Place place_in_memory(std::size_t bytes);  // none if there is no room
  Place place_in_file(std::size_t bytes);
  bool reserve_in_file(std::size_t bytes, TierPlace& place, std::exception_ptr& refusal);
  [[noreturn]] void throw_full(std::size_t bytes, const std::string& why) const;
  std::shared_ptr<Entry> entry_of(Slot slot) const;
  Share share_at(const Entry& entry, std::size_t offset, std::size_t bytes) const;
  void end_write(Entry& entry, const Share& share, bool written);
  void copy_out(const Share& share, const char* from);
  void copy_in(const Share& share, char* to, const Queued& queued);
  void write_file(const TierPlace& file, std::size_t offset, const std::vector<HostExtent>& memory,
                  std::size_t bytes);
  void read_file(const TierPlace& file, std::size_t offset, const std::vector<HostExtent>& memory,
                 std::size_t bytes);

  // tiered_moves.cpp
  void start_movers(std::size_t movers);
  void stop_movers() noexcept;
  void work() noexcept;
  std::size_t mark_bytes() const;
  std::size_t wanted_bytes() const;
  const Candidate* due_down() const;
  std::shared_ptr<Entry> due_up();
  std::optional<Move> next_move();
  void run(Move move) noexcept;
  void list(Piece& piece);
  void unlist(Piece& piece);
  void stop_expecting(Entry& entry);
  bool await_room(std::size_t bytes);
  bool await_change(std::uint64_t seen);
  void await_places(std::size_t bytes);
  std::uint64_t changes() const;
  void changed() noexcept;
  void wake() noexcept;
  void wake_waiting() noexcept;

  const std::shared_ptr<Link> link_;
  const std::unique_ptr<PinnedStore> pinned_;
  const std::unique_ptr<Store> file_;
  const std::size_t piece_bytes_;
  const std::size_t buffers_bytes_;
  Tier pinned_tier_;
  Tier file_tier_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // a move ended, or a slot was released, or a stale place
  std::condition_variable work_;     // something may be to be moved
  bool stopping_ = false;
  std::unordered_map<std::uint64_t, std::shared_ptr<Entry>> entries_;
  FreeSpace names_;
  std::size_t used_bytes_ = 0;
  std::size_t peak_bytes_ = 0;
  Candidates candidates_;                // oldest first
  Expected expected_;                    // by soon, in this order
  std::list<std::size_t> wanted_bytes_;  // of each reserve that waits, first come first
  std::size_t leaving_bytes_ = 0;        // moving down
  std::size_t coming_bytes_ = 0;         // moving up
  std::size_t moves_ = 0;                // under way
  std::uint64_t changes_ = 0;
  std::atomic<std::size_t> waiting_{0};  // for places
  bool paused_ = false;                  // a move down failed
  std::size_t failures_ = 0;             // of moves down; the last one:
  std::exception_ptr last_failure_;
  std::vector<std::thread> movers_;

  std::mutex buffers_mutex_;
  std::condition_variable buffer_free_;
  std::vector<Buffer> buffers_;  // not in use
};

}  // namespace swapmem
