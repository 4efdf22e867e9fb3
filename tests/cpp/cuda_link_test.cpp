// Copies between the device and pinned memory.
#include "cuda/cuda_link.h"

#include <functional>
#include <vector>

#include "core/errors.h"
#include "cuda/cuda_device.h"
#include "support/fake_cuda.h"
#include "support/process.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::cuda;
using namespace swapmem::test;

namespace {

constexpr std::size_t page = std::size_t{2} << 20;

class PinnedBuffer {
 public:
  PinnedBuffer(Link& link, std::size_t bytes) : link_(link), words_(bytes / sizeof words_[0]) {
    link_.pin(words_.data(), bytes);
  }
  ~PinnedBuffer() { link_.unpin(words_.data(), bytes()); }
  void* data() { return words_.data(); }
  Address address() { return reinterpret_cast<Address>(words_.data()); }
  std::size_t bytes() const { return words_.size() * sizeof words_[0]; }

 private:
  Link& link_;
  std::vector<std::uint64_t> words_;
};

void* pointer(Address address) {
  return reinterpret_cast<void*>(address);
}

// A device with some memory and a link; it ends with nothing left and nothing reported.
void with_link(const std::function<void(Link&, Span)>& body) {
  const FakeCuda fake;
  {
    CudaDevice device(0, 4 * page, std::size_t{1} << 30);
    const auto link = device.link();
    const Span memory{device.region().address, 2 * page};
    device.commit(memory);
    body(*link, memory);
  }
  fake.finish();
}

}  // namespace

TEST(cuda_link, bytes_go_out_and_come_back) {
  with_link([](Link& link, Span memory) {
    PinnedBuffer host(link, page);
    fill(memory.address, page, 1);
    link.copy_out(host.data(), pointer(memory.address), page);
    CHECK(holds(host.address(), page, 1));
    fill(host.address(), page, 2);
    link.copy_in(pointer(memory.address + page), host.data(), page);
    CHECK(holds(memory.address + page, page, 2));
    CHECK(holds(memory.address, page, 1));
  });
}

TEST(cuda_link, memory_that_is_not_pinned_is_refused) {
  with_link([](Link& link, Span memory) {
    std::vector<char> pageable(page);
    PinnedBuffer host(link, page);
    const std::uint64_t copies = fake_calls("cuMemcpyDtoHAsync") + fake_calls("cuMemcpyHtoDAsync");
    const auto refused = [&](void* at, std::size_t bytes) {
      for (const bool out : {true, false}) {
        try {
          out ? link.copy_out(at, pointer(memory.address), bytes)
              : link.copy_in(pointer(memory.address), at, bytes);
          CHECK(false);
        } catch (const DeviceError& error) {
          CHECK_EQUAL(error.code, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
        }
      }
    };
    refused(pageable.data(), 4096);
    refused(pointer(host.address() + page - 4096), 8192);
    refused(pointer(host.address() - 4096), 8192);
    refused(pointer(host.address() + page), 4096);
    CHECK_EQUAL(fake_calls("cuMemcpyDtoHAsync") + fake_calls("cuMemcpyHtoDAsync"), copies);
    link.copy_out(pointer(host.address() + page - 4096), pointer(memory.address), 4096);
  });
}

TEST(cuda_link, memory_that_was_unpinned_is_refused) {
  with_link([](Link& link, Span memory) {
    std::vector<char> host(page);
    link.pin(host.data(), page);
    CHECK_EQUAL(counts().registered_bytes, page);
    CHECK_THROWS(DeviceError, link.pin(host.data(), page));
    link.copy_out(host.data(), pointer(memory.address), page);
    link.unpin(host.data(), page);
    CHECK_EQUAL(counts().registered_bytes, 0u);
    CHECK_THROWS(DeviceError, link.copy_out(host.data(), pointer(memory.address), page));
  });
}

TEST(cuda_link, more_than_may_be_pinned_is_an_error_with_numbers) {
  with_link([](Link& link, Span memory) {
    fake_set_pinned_limit(page);
    std::vector<char> host(2 * page);
    try {
      link.pin(host.data(), 2 * page);
      CHECK(false);
    } catch (const DeviceError& error) {
      CHECK(std::string(error.what()).find(std::to_string(2 * page)) != std::string::npos);
    }
    CHECK_THROWS(DeviceError, link.copy_out(host.data(), pointer(memory.address), 4096));
    link.pin(host.data(), page);
    link.copy_out(host.data(), pointer(memory.address), page);
    link.unpin(host.data(), page);
  });
}

TEST(cuda_link, what_is_still_pinned_is_unpinned_at_the_end) {
  std::vector<char> host(page);
  with_link([&](Link& link, Span) { link.pin(host.data(), page); });
}

TEST(cuda_link, a_link_may_outlive_its_device) {
  const FakeCuda fake;
  {
    std::unique_ptr<Link> link;
    {
      CudaDevice device(0, 4 * page, std::size_t{1} << 30);
      link = device.link();
    }
    PinnedBuffer host(*link, page);
  }
  fake.finish();
}

TEST(cuda_link, a_link_that_gets_one_stream_of_two_leaves_nothing) {
  with_link([](Link&, Span) {
    CudaDevice device(0, 4 * page, std::size_t{1} << 30);
    fake_fail("cuStreamCreate", 2, CUDA_ERROR_OUT_OF_MEMORY, 0);
    CHECK_THROWS(DeviceError, device.link());
    CHECK_EQUAL(counts().streams, 2u);  // those of the other link
  });
}

TEST(cuda_link, both_directions_run_at_the_same_time) {
  with_link([](Link& link, Span memory) {
    fake_seed(0);  // measures time
    const FakeRates rates{1e9, 1e9, 0, 0};
    fake_set_rates(&rates);
    PinnedBuffer out(link, page);
    PinnedBuffer in(link, page);
    Task one([&] { link.copy_out(out.data(), pointer(memory.address), page); });
    Task other([&] { link.copy_in(pointer(memory.address + page), in.data(), page); });
    one.join();
    other.join();
    CHECK(fake_link_seconds(1) > 0.9 * page / 1e9);
    CHECK(fake_link_seconds(0) > 0.9 * page / 1e9);
    CHECK_EQUAL(counts().streams, 2u);
  });
}

TEST(cuda_link, several_workers_copy_chunks_both_ways) {
  with_link([](Link& link, Span memory) {
    constexpr std::size_t chunk = page / 8;
    PinnedBuffer host(link, 2 * page);
    for (std::size_t at = 0; at < page; at += chunk) {
      fill(memory.address + at, chunk, 10 + at);
      fill(host.address() + page + at, chunk, 20 + at);
    }
    const auto work = [&](std::size_t n) {
      for (std::size_t at = n * chunk; at < page; at += 4 * chunk) {
        link.copy_out(pointer(host.address() + at), pointer(memory.address + at), chunk);
        link.copy_in(pointer(memory.address + page + at), pointer(host.address() + page + at),
                     chunk);
        CHECK(holds(host.address() + at, chunk, 10 + at));
        CHECK(holds(memory.address + page + at, chunk, 20 + at));
      }
    };
    std::vector<std::unique_ptr<Task>> tasks;
    for (std::size_t n = 0; n < 4; ++n) {
      tasks.push_back(std::make_unique<Task>([&work, n] { work(n); }));
    }
    for (const auto& task : tasks) task->join();
    CHECK(counts().events <= 8);
  });
}

TEST(cuda_link, whichever_call_fails_the_copy_has_ended_when_it_throws) {
  for (const bool for_ever : {false, true}) {
    for (const bool out : {true, false}) {
      for (std::uint64_t nth = 1;; ++nth) {
        bool reached = false;
        with_link([&](Link& link, Span memory) {
          fill(memory.address, page, 3);
          {
            PinnedBuffer host(link, page);
            fill(host.address(), page, 4);
            const std::uint64_t before = fake_calls("*");
            bool thrown = false;
            // Only a lost context refuses to wait for a stream or to be popped, and then all is
            // lost.
            fake_fail("*", nth, CUDA_ERROR_OUT_OF_MEMORY, 0);
            if (for_ever) {
              fake_fail_none();
              for (const char* call : {"cuEventCreate", "cuEventRecord", "cuEventSynchronize"}) {
                fake_fail(call, nth, CUDA_ERROR_OUT_OF_MEMORY, 1);
              }
            }
            try {
              out ? link.copy_out(host.data(), pointer(memory.address), page)
                  : link.copy_in(pointer(memory.address), host.data(), page);
            } catch (const DeviceError& error) {
              CHECK_EQUAL(error.code, CUDA_ERROR_OUT_OF_MEMORY);
              thrown = true;
            }
            reached = fake_calls("*") - before >= nth;
            fake_fail_none();
            if (!thrown) {
              CHECK(holds(out ? host.address() : memory.address, page, out ? 3 : 4));
            }
          }  // the buffer goes: nothing may be copied to or from it any more
        });
        if (!reached) break;
      }
    }
  }
}

TEST(cuda_link, what_is_current_in_the_thread_stays_current) {
  const FakeCuda fake(2);
  {
    CudaDevice device(0, 4 * page, std::size_t{1} << 30);
    const auto link = device.link();
    const Span memory{device.region().address, page};
    device.commit(memory);
    const Context other(1);
    const Context::Scope scope(other);
    {
      PinnedBuffer host(*link, page);
      link->copy_out(host.data(), pointer(memory.address), page);
      link->copy_in(pointer(memory.address), host.data(), page);
    }
    CUcontext current = nullptr;
    driver().cuCtxGetCurrent(&current);
    CHECK(current == other.handle());
  }
  fake.finish();
}

TEST(cuda_link, a_context_that_somebody_destroyed_is_an_error_and_not_the_end) {
  const FakeCuda fake;
  {
    CudaDevice device(0, 4 * page, std::size_t{1} << 30);
    const auto link = device.link();
    const Span memory{device.region().address, page};
    device.commit(memory);
    PinnedBuffer host(*link, page);
    fake_break_context(0, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    CHECK_THROWS(DeviceError, link->copy_out(host.data(), pointer(memory.address), page));
    CHECK_THROWS(DeviceError, link->copy_in(pointer(memory.address), host.data(), page));
  }
  fake_reset();
}

TEST(cuda_link, a_forked_child_is_told_and_can_end) {
  with_link([](Link& link, Span memory) {
    PinnedBuffer host(link, page);
    const Ended ended = in_fork([&] {
      try {
        link.copy_out(host.data(), pointer(memory.address), page);
        return 1;
      } catch (const DeviceError& error) {
        return error.code == CUDA_ERROR_NOT_INITIALIZED ? 0 : 2;
      }
    });
    CHECK(ended.exited(0));
  });
}
