// A CUDA device whose bookkeeping cannot be given memory: nothing is changed, or all is done.
#include <functional>
#include <new>

#include "core/errors.h"
#include "cuda/handles.h"
#include "support/scarce_memory.h"
#include "support/small_device.h"

using namespace swapmem;
using namespace swapmem::cuda;
using namespace swapmem::test;

namespace {

// A page at each end of a frame.
Span block(const CudaDevice& device) {
  return {device.region().address + 8 * frame - page, frame + 2 * page};
}

// Calls with the first, second, ... allocation failing until none does, in the fake driver as well;
// `unchanged` is called after each failure.
void with_scarce_memory(const std::function<void()>& act, const std::function<void()>& unchanged) {
  for (std::uint64_t nth = 1;; ++nth) {
    bool done = false;
    {
      const ScarceMemory scarce(nth);
      try {
        act();
        done = true;
      } catch (const std::bad_alloc&) {
        CHECK(scarce.ran_out());
      } catch (const DeviceError&) {
        CHECK(scarce.ran_out());
      }
    }
    if (done) {
      CHECK(nth > 1);
      return;
    }
    unchanged();
  }
}

}  // namespace

TEST(scarce_memory, a_device_for_more_addresses_than_can_be_described_is_refused) {
  const FakeCuda fake;
  CHECK_THROWS(std::bad_alloc, CudaDevice(0, frame, ~std::size_t{0}));
  fake.finish();
}

TEST(scarce_memory, a_commit_that_gets_none_takes_no_device_memory) {
  with_device([](CudaDevice& device) {
    const Span span = block(device);
    with_scarce_memory([&] { device.commit(span); },
                       [&] { CHECK_EQUAL(device.usage().in_use_bytes, 0u); });
    mark(span.address, span.bytes, 1);
    CHECK(marked(span.address, span.bytes, 1));
  });
}

TEST(scarce_memory, a_move_that_gets_none_leaves_the_memory_where_it_is) {
  with_device([](CudaDevice& device) {
    const Span from = block(device);
    const Span to = elsewhere(from);
    device.commit(from);
    mark(from.address, from.bytes, 1);
    with_scarce_memory([&] { device.move(from.address, to.address, from.bytes, {}); },
                       [&] { CHECK(marked(from.address, from.bytes, 1)); });
    device.commit(to);
    CHECK(marked(to.address, to.bytes, 1));
  });
}

TEST(scarce_memory, what_cannot_be_tidied_for_want_of_it_is_tidied_later) {
  with_device([](CudaDevice& device) {
    const Span from = block(device);
    const Span to = elsewhere(from);
    device.commit(from);
    device.move(from.address, to.address, from.bytes, one(device.late_fence()));
    std::size_t nth = 1;
    for (bool ran_out = true; ran_out; ++nth) {
      CHECK(readable(from.address));
      const ScarceMemory scarce(nth);
      device.tidy();
      ran_out = scarce.ran_out();
    }
    CHECK(nth > 2);
    CHECK(closed(from));
  });
}

TEST(scarce_memory, a_fill_that_gets_none_leaves_the_memory_with_the_staging_block) {
  with_device([](CudaDevice& device) {
    const Span staging = block(device);
    const Span filled = elsewhere(staging);
    device.commit_staging(staging);
    const std::size_t in_use_bytes = device.usage().in_use_bytes;
    with_scarce_memory([&] { device.begin_fill(staging, filled); },
                       [&] { CHECK_EQUAL(device.usage().in_use_bytes, in_use_bytes); });
    mark(filled.address, filled.bytes, 1);
    with_scarce_memory([&] { device.finish_fill(staging, filled); },
                       [&] { CHECK(marked(filled.address, filled.bytes, 1)); });
    CHECK(marked(filled.address, filled.bytes, 1));
    CHECK_EQUAL(device.usage().in_use_bytes, in_use_bytes);
  });
}

TEST(scarce_memory, a_handle_that_cannot_be_remembered_goes_back_to_the_driver) {
  const FakeCuda fake;
  {
    const Context context(0);
    const Context::Scope scope(context);
    Handles handles(context, page, frame, page);
    handles.use(3 * page);
    const Handle first = handles.take(Unit::page, false);
    const Handle second = handles.take(Unit::page, false);
    const Handle third = handles.take(Unit::page, false);
    handles.unuse(3 * page);
    fake_fail("cuMemRelease", 1, CUDA_ERROR_NOT_PERMITTED, 0);
    handles.give_back(Unit::page, first);
    handles.give_back(Unit::page, second);  // one too many, and not taken back
    CHECK_EQUAL(handles.cached_bytes(), 2 * page);
    {
      const ScarceMemory scarce(1);
      handles.give_back(Unit::page, third);
      CHECK(scarce.ran_out());
    }
    CHECK_EQUAL(handles.existing_bytes(), 2 * page);
    CHECK_EQUAL(counts().handle_bytes, 2 * page);
  }
  fake.finish();
}

TEST(scarce_memory, an_event_that_cannot_be_remembered_goes_back_to_the_driver) {
  const FakeCuda fake;
  {
    const Context context(0);
    const Context::Scope scope(context);
    EventPool pool(context, CU_EVENT_DISABLE_TIMING);
    EventPool::Event event = pool.take();
    {
      const ScarceMemory scarce(1);
      event.reset();
      CHECK(scarce.ran_out());
    }
    CHECK_EQUAL(counts().events, 0u);
    pool.take().reset();
    CHECK_EQUAL(counts().events, 1u);
  }
  fake.finish();
}
