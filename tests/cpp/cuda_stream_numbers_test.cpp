// Which stream a fence is of: handles that come again, default streams, streams without end.
#include "cuda/streams.h"

#include <atomic>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/errors.h"
#include "support/fake_cuda.h"
#include "support/process.h"
#include "support/streams.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::cuda;
using namespace swapmem::test;

TEST(cuda_streams, the_default_streams_have_fences_too) {
  with_streams([](Context&, Streams& streams) {
    const Fence null = fence_on(streams, nullptr);
    const Fence legacy = fence_on(streams, legacy_stream());
    const Fence mine = fence_on(streams, per_thread_stream());
    Fence other = 0;
    Task task([&] { other = fence_on(streams, per_thread_stream()); });
    task.join();
    CHECK_EQUAL(number(null), number(legacy));
    CHECK(number(mine) != number(null));
    CHECK(number(other) != number(mine));  // the same handle, another stream
    for (const Fence fence : {null, legacy, mine, other}) streams.wait(fence);
  });
}

TEST(cuda_streams, a_stream_with_the_handle_of_a_destroyed_one_is_another) {
  with_streams([](Context& context, Streams& streams) {
    fake_set_reuse(1);
    const Buffer buffer(context);
    auto old = std::make_unique<FakeStream>();
    const CUstream handle = *old;
    old->mark(buffer.address(), buffer.bytes(), 4);
    const Fence fence = fence_on(streams, *old);
    old.reset();
    FakeStream successor;
    CHECK(static_cast<CUstream>(successor) == handle);
    std::atomic<int> good{0};
    order_on(streams, successor, fence);
    successor.check(buffer.address(), buffer.bytes(), 4, good);
    successor.synchronize();
    CHECK_EQUAL(good, 1);
    CHECK(streams.passed(fence));
    CHECK(number(fence_on(streams, successor)) != number(fence));
  });
}

TEST(cuda_streams, a_destroyed_stream_is_refused_as_the_current_one) {
  const FakeCuda fake;
  {
    Context context(0);
    Streams streams(context);
    FakeStream stream;
    const CUstream handle = stream;
    stream.destroy();
    CHECK_THROWS(DeviceError, fence_on(streams, handle));
    fake_clear_reports();  // it tells of the use of a handle that is no more
    streams.wait(fence_on(streams, nullptr));
  }
  fake.finish();
}

TEST(cuda_streams, a_stream_of_another_device_is_refused) {
  with_streams(
      [](Context&, Streams& streams) {
        FakeStream foreign(1);
        FakeStream own(0);
        own.hold();
        const Fence fence = fence_on(streams, own);
        for (const bool fence_first : {true, false}) {
          try {
            fence_first ? static_cast<void>(fence_on(streams, foreign))
                        : order_on(streams, foreign, fence);
            CHECK(false);
          } catch (const DeviceError& error) {
            CHECK_EQUAL(error.code, CUDA_ERROR_INVALID_CONTEXT);
            CHECK(std::string(error.what()).find("device 0") != std::string::npos);
          }
        }
        own.let_go();
        streams.wait(fence);
      },
      2);
}

TEST(cuda_streams, a_fence_of_nobody_is_refused) {
  with_streams([](Context&, Streams& streams) {
    const Fence unknown = Fence{77} << fence_stream_shift | 5;
    CHECK_THROWS(DeviceError, streams.wait(unknown));
    CHECK_THROWS(DeviceError, streams.order(unknown));
    CHECK_THROWS(DeviceError, streams.passed(unknown));
  });
}

TEST(cuda_streams, streams_without_end_share_few_numbers) {
  with_streams([](Context&, Streams& streams) {
    Fence first = 0;
    for (int i = 0; i < 200; ++i) {
      FakeStream stream;
      const Fence fence = fence_on(streams, stream);
      if (first == 0) first = fence;
      CHECK(number(fence) <= 33);
      streams.wait(fence);
    }
    CHECK(streams.passed(first));
  });
}

TEST(cuda_streams, a_stream_with_work_queued_keeps_its_number) {
  with_streams([](Context&, Streams& streams) {
    FakeStream held;
    held.hold();
    const Fence fence = fence_on(streams, held);
    for (int i = 0; i < 100; ++i) {
      FakeStream stream;
      const Fence other = fence_on(streams, stream);
      CHECK(number(other) != number(fence));
      streams.wait(other);
    }
    CHECK(!streams.passed(fence));
    CHECK_EQUAL(number(fence_on(streams, held)), number(fence));
    held.let_go();
    streams.wait(fence);
  });
}

TEST(cuda_streams, the_null_stream_keeps_its_number_for_late_fences) {
  with_streams([](Context&, Streams& streams) {
    const Fence fence = streams.late_fence();
    for (int i = 0; i < 100; ++i) {
      FakeStream stream;
      const Fence other = fence_on(streams, stream);
      CHECK(number(other) != number(fence));
      streams.wait(other);
    }
    streams.wait(fence);
    CHECK_EQUAL(number(fence_on(streams, nullptr)), number(fence));
  });
}

TEST(cuda_streams, streams_that_all_have_work_queued_each_have_a_number) {
  with_streams([](Context&, Streams& streams) {
    std::vector<std::unique_ptr<FakeStream>> held;
    std::vector<Fence> fences;
    std::set<std::uint64_t> numbers;
    for (int i = 0; i < 100; ++i) {
      held.push_back(std::make_unique<FakeStream>());
      held.back()->hold();
      fences.push_back(fence_on(streams, *held.back()));
      numbers.insert(number(fences.back()));
    }
    CHECK_EQUAL(numbers.size(), fences.size());
    for (std::size_t i = fences.size(); i-- > 0;) {
      CHECK(!streams.passed(fences[i]));
      held[i]->let_go();
      streams.wait(fences[i]);
    }
  });
}

TEST(child, cuda_streams_of_a_driver_without_ids) {
  fake_hide("cuStreamGetId");
  driver();
  with_streams([](Context& context, Streams& streams) {
    CHECK(driver().cuStreamGetId == nullptr);
    const Buffer buffer(context);
    FakeStream writer;
    FakeStream reader;
    std::atomic<int> good{0};
    for (std::uint64_t cookie = 1; cookie < 100; ++cookie) {
      writer.mark(buffer.address(), buffer.bytes(), cookie);
      order_on(streams, reader, fence_on(streams, writer));
      reader.check(buffer.address(), buffer.bytes(), cookie, good);
      const Fence fence = fence_on(streams, reader);
      order_on(streams, writer, fence);
      order_on(streams, reader, fence);
      CHECK(number(fence) <= 210);
    }
    reader.synchronize();
    CHECK_EQUAL(good, 99);
  });
}

TEST(cuda_streams, a_driver_without_ids_is_taken_to_have_nothing_in_order) {
  const Ended ended = in_new_process("child/cuda_streams_of_a_driver_without_ids");
  CHECK_EQUAL(ended.errors, "");
  CHECK(ended.exited(0));
}
