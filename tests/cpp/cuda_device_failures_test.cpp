// The CUDA device: what is left after a failure, and what is refused.
#include <array>
#include <functional>

#include "core/errors.h"
#include "support/small_device.h"

using namespace swapmem;
using namespace swapmem::cuda;
using namespace swapmem::test;

namespace {

// A block with known bytes that a driver call fails beside.
class Bystander {
 public:
  explicit Bystander(CudaDevice& device) : block_(spans(device)[0]) {
    device.commit(block_);
    mark(block_.address, block_.bytes, 100);
  }
  void verify() { CHECK(marked(block_.address, block_.bytes, 100)); }

 private:
  const Span block_;
};

struct Step {
  std::string name;
  std::function<void(CudaDevice&, Span)> prepare;
  std::function<void(CudaDevice&, Span)> act;
  std::function<void(CudaDevice&, Span)> before;  // what holds if it threw
  std::function<void(CudaDevice&, Span)> after;   // what holds if it did not
};

const std::vector<Step>& steps() {
  const auto nothing = [](CudaDevice&, Span) {};
  const auto committed = [](CudaDevice& device, Span span) {
    device.commit(span);
    mark(span.address, span.bytes, 20);
  };
  const auto unchanged = [](CudaDevice& device, Span span) {
    device.commit(span);
    CHECK(marked(span.address, span.bytes, 20));
  };
  const auto is_closed = [](CudaDevice&, Span span) { CHECK(closed(span)); };
  static const std::vector<Step> all{
      {"commit", nothing, [](CudaDevice& device, Span span) { device.commit(span); }, is_closed,
       [](CudaDevice&, Span span) { mark(span.address, span.bytes, 21); }},
      {"commit_beside",
       [](CudaDevice& device, Span span) {
         device.commit({span.address, page});
         mark(span.address, page, 20);
       },
       [](CudaDevice& device, Span span) { device.commit(span); },
       [](CudaDevice&, Span span) {
         CHECK(marked(span.address, page, 20));
         CHECK(closed({span.address + page, span.bytes - page}));
       },
       [](CudaDevice&, Span span) { CHECK(marked(span.address, page, 20)); }},
      {"commit_parked",
       [=](CudaDevice& device, Span span) {
         const Span from = elsewhere(span);
         committed(device, from);
         device.move(from.address, span.address, span.bytes, {});
       },
       [](CudaDevice& device, Span span) { device.commit(span); }, unchanged, unchanged},
      {"decommit", committed, [](CudaDevice& device, Span span) { device.decommit(span, {}); },
       unchanged, [](CudaDevice& device, Span span) { device.commit(span); }},
      {"move", committed,
       [](CudaDevice& device, Span span) {
         device.move(span.address, elsewhere(span).address, span.bytes, {});
       },
       unchanged,
       [](CudaDevice& device, Span span) {
         device.commit(elsewhere(span));
         CHECK(marked(elsewhere(span).address, span.bytes, 20));
         device.commit(span);
         mark(span.address, span.bytes, 21);
         CHECK(marked(elsewhere(span).address, span.bytes, 20));
       }},
      {"begin_fill",
       [=](CudaDevice& device, Span span) {
         committed(device, elsewhere(span));
         device.move(elsewhere(span).address, elsewhere(span, 128).address, span.bytes, {});
       },
       [](CudaDevice& device, Span span) { device.begin_fill(elsewhere(span, 128), span); },
       [=](CudaDevice& device, Span span) {
         CHECK(closed(span));
         unchanged(device, elsewhere(span, 128));
       },
       [](CudaDevice&, Span span) { CHECK(marked(span.address, span.bytes, 20)); }},
      {"finish_fill",
       [=](CudaDevice& device, Span span) {
         committed(device, elsewhere(span));
         device.begin_fill(elsewhere(span), span);
       },
       [](CudaDevice& device, Span span) { device.finish_fill(elsewhere(span), span); },
       [](CudaDevice& device, Span span) {
         device.finish_fill(elsewhere(span), span);
         CHECK(marked(span.address, span.bytes, 20));
       },
       [](CudaDevice& device, Span span) {
         CHECK(marked(span.address, span.bytes, 20));
         device.commit(elsewhere(span));
         mark(elsewhere(span).address, span.bytes, 21);
         CHECK(marked(span.address, span.bytes, 20));
       }},
      {"trim", committed, [](CudaDevice& device, Span) { device.trim(); }, unchanged, unchanged},
  };
  return all;
}

}  // namespace

TEST_EACH(cuda_device, whichever_call_fails_nothing_is_changed_or_all_is_done, steps()) {
  for (const bool for_ever : {false, true}) {
    for (std::size_t which = 0; which < 3; ++which) {
      for (std::uint64_t nth = 1;; ++nth) {
        const FakeCuda fake;
        bool reached = false;
        {
          const auto device = make_device();
          Bystander bystander(*device);
          const Span span = spans(*device, 256)[which];
          kind.prepare(*device, span);
          const std::size_t in_use_bytes = device->usage().in_use_bytes;
          const std::uint64_t before = fake_calls("*");
          fake_fail("*", nth, CUDA_ERROR_OUT_OF_MEMORY, for_ever);
          bool thrown = false;
          try {
            kind.act(*device, span);
          } catch (const DeviceError& error) {
            CHECK_EQUAL(error.code, CUDA_ERROR_OUT_OF_MEMORY);
            thrown = true;
          }
          reached = fake_calls("*") - before >= nth;
          fake_fail_none();
          CHECK(reached || !thrown);
          if (thrown) CHECK_EQUAL(device->usage().in_use_bytes, in_use_bytes);
          bystander.verify();
          // An unmap that was refused is tried again by the next call for its place.
          if (thrown) device->decommit(elsewhere(span, 200), {});
          (thrown ? kind.before : kind.after)(*device, span);
          bystander.verify();
          device->trim();
          CHECK_EQUAL(counts().handle_bytes, device->usage().in_use_bytes);
        }
        fake.finish();
        if (!reached) break;
      }
    }
  }
}

TEST(cuda_device, more_than_the_card_has_is_an_error_with_numbers) {
  const FakeCuda fake(1, 4 * frame);
  {
    const auto device = make_device();
    const Span kept{device->region().address, frame};
    device->commit(kept);
    mark(kept.address, kept.bytes, 22);
    try {
      device->commit({kept.end(), 8 * frame});
      CHECK(false);
    } catch (const DeviceError& error) {
      CHECK_EQUAL(error.code, CUDA_ERROR_OUT_OF_MEMORY);
      const std::string what = error.what();
      CHECK(what.find(std::to_string(frame) + " bytes") != std::string::npos);
      CHECK(what.find(std::to_string(4 * frame)) != std::string::npos);
    }
    CHECK_EQUAL(device->usage().in_use_bytes, frame);
    CHECK(closed({kept.end(), 8 * frame}));
    CHECK(marked(kept.address, kept.bytes, 22));
    device->commit({kept.end(), 3 * frame});
  }
  fake.finish();
}

TEST(cuda_device, a_device_that_does_not_exist_is_refused) {
  const FakeCuda fake(2);
  CHECK_THROWS(DeviceError, CudaDevice(2));
  CHECK_THROWS(DeviceError, CudaDevice(-1));
  fake.finish();
}

TEST(cuda_device, frames_that_the_device_cannot_have_are_refused) {
  const FakeCuda fake;
  CHECK_THROWS(DeviceError, CudaDevice(0, page / 2, address_bytes));
  CHECK_THROWS(DeviceError, CudaDevice(0, 3 * page, address_bytes));
  fake.finish();
}

TEST(cuda_device, fewer_addresses_are_reserved_where_not_all_are_given) {
  const FakeCuda fake;
  fake_fail("cuMemAddressReserve", 1, CUDA_ERROR_OUT_OF_MEMORY, 0);
  {
    const auto device = make_device();
    CHECK(device->region().bytes <= address_bytes / 2);
    CHECK(device->region().bytes >= address_bytes / 2 - frame);
  }
  fake_fail("cuMemAddressReserve", 1, CUDA_ERROR_OUT_OF_MEMORY, 1);
  CHECK_THROWS(DeviceError, make_device());
  fake_fail_none();
  fake.finish();
}

TEST(cuda_device, whichever_call_of_the_constructor_fails_nothing_is_left) {
  for (std::uint64_t nth = 1;; ++nth) {
    const FakeCuda fake;
    const std::uint64_t before = fake_calls("*");
    fake_fail("*", nth, CUDA_ERROR_NOT_PERMITTED, 0);
    bool thrown = false;
    try {
      make_device();
    } catch (const DeviceError& error) {
      thrown = true;
    }
    const bool reached = fake_calls("*") - before >= nth;
    fake_fail_none();
    if (thrown) fake.finish();
    if (!reached) break;
  }
}

TEST(cuda_device, spans_that_are_not_of_pages_of_this_device_are_refused) {
  with_device([](CudaDevice& device) {
    const Span region = device.region();
    CHECK_THROWS(DeviceError, device.commit({region.address + 4096, page}));
    CHECK_THROWS(DeviceError, device.commit({region.address, page + 4096}));
    CHECK_THROWS(DeviceError, device.commit({region.end() - page, 2 * page}));
    CHECK_THROWS(DeviceError, device.decommit({region.address - page, page}, {}));
    CHECK_THROWS(DeviceError, device.move(region.address, region.end(), page, {}));
    CHECK_EQUAL(counts().handles, 0u);
  });
}
