// Fences: when they pass, what comes after them, and what asking costs.
#include "cuda/streams.h"

#include <atomic>
#include <mutex>

#include "core/errors.h"
#include "support/fake_cuda.h"
#include "support/process.h"
#include "support/streams.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::cuda;
using namespace swapmem::test;

TEST(cuda_streams, the_current_stream_is_scoped_and_the_threads_own) {
  const auto one = reinterpret_cast<CUstream>(0x100);
  const auto two = reinterpret_cast<CUstream>(0x200);
  CHECK(current_stream() == nullptr);
  {
    const CurrentStream outer(one);
    {
      const CurrentStream inner(two);
      CHECK(current_stream() == two);
    }
    CHECK(current_stream() == one);
    Task other([] { CHECK(current_stream() == nullptr); });
    other.join();
  }
  CHECK(current_stream() == nullptr);
}

TEST(cuda_streams, a_fence_passes_when_the_work_before_it_has_run) {
  with_streams([](Context& context, Streams& streams) {
    const Buffer buffer(context);
    FakeStream stream;
    stream.hold();
    stream.mark(buffer.address(), buffer.bytes(), 1);
    const Fence fence = fence_on(streams, stream);
    CHECK(fence != 0);
    CHECK(!streams.passed(fence));
    stream.let_go();
    streams.wait(fence);
    CHECK(streams.passed(fence));
    CHECK(marked(buffer.address(), buffer.bytes(), 1));
  });
}

TEST(cuda_streams, waiting_takes_until_the_work_has_run) {
  with_streams([](Context& context, Streams& streams) {
    const Buffer buffer(context);
    FakeStream stream;
    stream.hold();
    stream.mark(buffer.address(), buffer.bytes(), 2);
    const Fence fence = fence_on(streams, stream);
    Task waiter([&] {
      streams.wait(fence);
      CHECK(marked(buffer.address(), buffer.bytes(), 2));
    });
    CHECK(!waiter.done());
    stream.let_go();
    waiter.join();
  });
}

TEST(cuda_streams, of_two_fences_of_a_stream_the_greater_passes_last) {
  with_streams([](Context&, Streams& streams) {
    FakeStream stream;
    const Fence first = fence_on(streams, stream);
    const Fence second = fence_on(streams, stream);
    CHECK_EQUAL(number(first), number(second));
    CHECK(first < second);
    streams.wait(second);
    const std::uint64_t calls = fake_calls("*");
    CHECK(streams.passed(first));
    CHECK(streams.passed(0));
    streams.wait(first);
    order_on(streams, stream, first);
    CHECK_EQUAL(fake_calls("*"), calls);  // known without the driver
  });
}

TEST(cuda_streams, work_ordered_after_a_fence_of_another_stream_comes_after_it) {
  with_streams([](Context& context, Streams& streams) {
    const Buffer buffer(context);
    FakeStream writer;
    FakeStream reader;
    std::atomic<int> good{0};
    writer.hold();
    writer.mark(buffer.address(), buffer.bytes(), 3);
    order_on(streams, reader, fence_on(streams, writer));
    reader.check(buffer.address(), buffer.bytes(), 3, good);
    fake_run(100);
    CHECK_EQUAL(good, 0);
    writer.let_go();
    reader.synchronize();
    CHECK_EQUAL(good, 1);
  });
}

TEST(cuda_streams, without_order_the_fake_driver_would_have_told) {
  const FakeCuda fake;
  {
    Context context(0);
    const Buffer buffer(context);
    FakeStream writer;
    FakeStream reader;
    std::atomic<int> good{0};
    writer.mark(buffer.address(), buffer.bytes(), 3);
    reader.check(buffer.address(), buffer.bytes(), 3, good);
    CHECK(fake_report_count(FAKE_UNORDERED) > 0);
    fake_clear_reports();
  }
  fake.finish();
}

TEST(cuda_streams, order_within_a_stream_gives_it_nothing_to_wait_for) {
  with_streams([](Context&, Streams& streams) {
    FakeStream stream;
    stream.hold();
    const Fence fence = fence_on(streams, stream);
    const std::uint64_t waits = fake_calls("cuStreamWaitEvent");
    const std::uint64_t queries = fake_calls("cuEventQuery");
    order_on(streams, stream, fence);
    CHECK_EQUAL(fake_calls("cuStreamWaitEvent"), waits);
    CHECK_EQUAL(fake_calls("cuEventQuery"), queries);
    stream.let_go();
  });
}

TEST(cuda_streams, a_late_fence_asks_the_driver_nothing_until_somebody_wants_to_know) {
  with_streams([](Context&, Streams& streams) {
    streams.wait(streams.late_fence());
    const std::uint64_t asked = fake_calls("*");
    const Fence fence = streams.late_fence();
    streams.order(fence);  // on its own stream
    CHECK_EQUAL(streams.late_fence(), fence);
    CHECK_EQUAL(fake_calls("*"), asked);
    streams.wait(fence);
    CHECK_EQUAL(streams.late_fence(), fence + 1);
  });
}

TEST(cuda_streams, what_comes_after_a_late_fence_comes_after_the_work_before_it) {
  with_streams([](Context& context, Streams& streams) {
    const Buffer buffer(context);
    FakeStream other;
    const Fence before = fence_on(streams, nullptr);
    {
      const Context::Scope scope(context);
      cuda::check(driver().cuMemsetD8Async(buffer.address(), 5, buffer.bytes(), nullptr), "memset");
    }
    const Fence fence = streams.late_fence();
    CHECK(fence > before);
    order_on(streams, other, fence);
    other.mark(buffer.address(), buffer.bytes(), 6);
    other.synchronize();
    CHECK(marked(buffer.address(), buffer.bytes(), 6));
    CHECK(streams.passed(fence));
  });
}

TEST(cuda_streams, only_the_null_stream_has_late_fences) {
  with_streams([](Context&, Streams& streams) {
    FakeStream stream;
    const CurrentStream current(stream);
    const std::uint64_t recorded = fake_calls("cuEventRecord");
    streams.late_fence();  // its stream may be destroyed before anybody asks
    CHECK_EQUAL(fake_calls("cuEventRecord"), recorded + 1);
  });
}

TEST(cuda_streams, a_late_fence_that_cannot_be_recorded_is_told_and_can_be_later) {
  with_streams([](Context&, Streams& streams) {
    const Fence fence = streams.late_fence();
    fake_fail("cuEventRecord", 1, CUDA_ERROR_UNKNOWN, 0);
    CHECK_THROWS(DeviceError, streams.wait(fence));
    streams.wait(fence);
    CHECK(streams.passed(fence));
  });
}

TEST(cuda_streams, what_is_current_in_the_thread_stays_current) {
  with_streams(
      [](Context& context, Streams& streams) {
        Context second(1);
        FakeStream stream(0);
        FakeStream other(0);
        const auto use = [&] {
          stream.hold();
          const Fence fence = fence_on(streams, stream);
          order_on(streams, other, fence);
          CHECK(!streams.passed(fence));
          stream.let_go();
          streams.wait(fence);
        };
        CUcontext current = nullptr;
        use();
        driver().cuCtxGetCurrent(&current);
        CHECK(current == nullptr);
        for (const Context* outer : {&second, &context}) {
          const Context::Scope scope(*outer);
          use();
          driver().cuCtxGetCurrent(&current);
          CHECK(current == outer->handle());
        }
        driver().cuCtxGetCurrent(&current);
        CHECK(current == nullptr);
      },
      2);
}

TEST(cuda_streams, events_are_used_again) {
  with_streams([](Context&, Streams& streams) {
    FakeStream stream;
    for (int i = 0; i < 1000; ++i) {
      const Fence fence = fence_on(streams, stream);
      if (i % 10 == 9) streams.wait(fence);
    }
    CHECK(counts().events <= 11);
  });
}

TEST(cuda_streams, a_refused_record_leaves_the_fences_as_they_were) {
  with_streams([](Context&, Streams& streams) {
    FakeStream stream;
    const Fence before = fence_on(streams, stream);
    fake_fail("cuEventRecord", 1, CUDA_ERROR_LAUNCH_FAILED, 0);
    CHECK_THROWS(DeviceError, fence_on(streams, stream));
    const Fence after = fence_on(streams, stream);
    CHECK_EQUAL(after, before + 1);
    streams.wait(after);
    CHECK(streams.passed(before));
  });
}

TEST(cuda_streams, whichever_call_fails_the_fence_is_told_later) {
  with_streams([](Context&, Streams& streams) {
    FakeStream stream;
    FakeStream other;
    std::size_t thrown = 0;
    for (const char* function :
         {"cuCtxGetCurrent", "cuCtxPushCurrent", "cuStreamGetId", "cuStreamGetCtx", "cuEventCreate",
          "cuEventRecord", "cuEventQuery", "cuStreamWaitEvent"}) {
      for (std::uint64_t nth = 1; nth <= 4; ++nth) {
        Fence fence = 0;
        stream.hold();
        fake_fail(function, nth, CUDA_ERROR_LAUNCH_FAILED, nth % 2 == 0);
        try {
          fence = fence_on(streams, stream);
          order_on(streams, other, fence);
        } catch (const DeviceError& error) {
          CHECK_EQUAL(error.code, CUDA_ERROR_LAUNCH_FAILED);
          ++thrown;
        }
        fake_fail_none();
        stream.let_go();
        if (fence != 0) streams.wait(fence);
        other.synchronize();
      }
    }
    CHECK(thrown >= 8);
    CUcontext current = nullptr;
    driver().cuCtxGetCurrent(&current);
    CHECK(current == nullptr);
  });
}

TEST(cuda_streams, several_threads_hand_memory_to_each_other_in_order) {
  with_streams([](Context& context, Streams& streams) {
    const Buffer buffer(context);
    std::mutex mutex;
    Fence last = 0;
    std::uint64_t cookie = 1000;
    std::atomic<int> good{0};
    {
      FakeStream stream;
      stream.mark(buffer.address(), buffer.bytes(), cookie);
      last = fence_on(streams, stream);
      streams.wait(last);
    }
    constexpr int rounds = 50;
    const auto work = [&] {
      FakeStream stream;
      for (int round = 0; round < rounds; ++round) {
        Fence mine = 0;
        {
          const std::lock_guard lock(mutex);
          order_on(streams, stream, last);
          stream.check(buffer.address(), buffer.bytes(), cookie, good);
          stream.mark(buffer.address(), buffer.bytes(), ++cookie);
          last = mine = fence_on(streams, stream);
        }
        streams.wait(mine);
      }
      stream.synchronize();
    };
    {
      Task a(work);
      Task b(work);
      Task c(work);
      a.join();
      b.join();
      c.join();
    }
    CHECK_EQUAL(good, 3 * rounds);
  });
}

TEST(cuda_streams, a_forked_child_is_told_and_does_not_hang) {
  with_streams([](Context&, Streams& streams) {
    FakeStream stream;
    const Fence fence = fence_on(streams, stream);
    const Ended ended = in_fork([&] {
      try {
        fence_on(streams, stream);
        return 1;
      } catch (const DeviceError& error) {
        return error.code == CUDA_ERROR_NOT_INITIALIZED ? 0 : 2;
      }
    });
    CHECK(ended.exited(0));
    streams.wait(fence);
  });
}
