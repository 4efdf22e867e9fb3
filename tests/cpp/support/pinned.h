// A pinned store over a link that checks what it is asked for.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "check.h"
#include "core/size_class.h"
#include "host/pinned_store.h"
#include "support/checked_link.h"
#include "support/refusals.h"
#include "support/slots.h"

namespace swapmem::test {

inline constexpr std::size_t slab_bytes = 16 * page_bytes;

inline std::size_t plenty() {
  return std::size_t{1} << 40;
}

// A store over a checked link. Whatever a test does, the link has nothing to complain about in the
// end, and nothing stays pinned.
struct CheckedPinned {
  std::shared_ptr<CheckedLink> link = std::make_shared<CheckedLink>();
  ArenaCalls calls = ArenaCalls::system();
  std::unique_ptr<PinnedStore> store;

  CheckedPinned() = default;
  explicit CheckedPinned(std::size_t slabs) { open(slabs * slab_bytes); }
  void open(std::size_t budget_bytes) {
    store = std::make_unique<PinnedStore>(link, budget_bytes, slab_bytes, calls);
  }
  ~CheckedPinned() noexcept(false) { end(store, *link); }
  PinnedStore* operator->() const { return store.get(); }
};

// Pages that are there, of a range.
inline std::size_t committed_pages(const void* memory, std::size_t bytes) {
  std::vector<unsigned char> pages(bytes / page_bytes);
  if (mincore(const_cast<void*>(memory), bytes, pages.data()) != 0) return 0;
  return static_cast<std::size_t>(
      std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return page & 1; }));
}

}  // namespace swapmem::test
