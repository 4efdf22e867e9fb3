// The CUDA device: memory that work queued on streams still uses.
#include <atomic>
#include <random>

#include "core/errors.h"
#include "support/small_device.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::cuda;
using namespace swapmem::test;

TEST(cuda_device, memory_that_is_decommitted_stays_until_its_last_use_has_passed) {
  with_device([](CudaDevice& device) {
    FakeStream stream;
    for (const Span block : spans(device)) {
      device.commit(block);
      stream.hold();
      stream.mark(block.address, block.bytes, 8);
      device.decommit(block, one(fence_on(device, stream)));  // does not wait
      CHECK(readable(block.address));
      CHECK_EQUAL(device.usage().in_use_bytes, 0u);
      CHECK(device.usage().existing_bytes >= block.bytes);
      stream.let_go();
      stream.synchronize();
      device.commit({device.region().address, page});  // any call sees to it
      CHECK(closed(block));
      device.decommit({device.region().address, page}, {});
    }
  });
}

TEST(cuda_device, a_move_unmaps_nothing_and_leaves_it_to_whoever_tidies) {
  with_device([](CudaDevice& device) {
    FakeStream stream;
    for (const Span from : spans(device)) {
      const Span to = elsewhere(from);
      device.commit(from);
      const std::uint64_t unmapped = fake_calls("cuMemUnmap");
      stream.hold();
      stream.mark(from.address, from.bytes, 8);
      device.move(from.address, to.address, from.bytes, one(fence_on(device, stream)));
      device.tidy();  // its last use has not passed
      CHECK_EQUAL(fake_calls("cuMemUnmap"), unmapped);
      stream.let_go();
      stream.synchronize();
      fake_fail("cuMemUnmap", 1, CUDA_ERROR_UNKNOWN, 0);
      device.tidy();  // tells nobody of it, and loses nothing
      CHECK(readable(from.address));
      device.tidy();
      CHECK(closed(from));
      device.commit(to);
      CHECK(marked(to.address, to.bytes, 8));
      device.decommit(to, {});
    }
  });
}

TEST(cuda_device, what_can_go_does_not_wait_for_what_was_put_off_before_it) {
  with_device([](CudaDevice& device) {
    FakeStream stream;
    const Span in_use = spans(device)[0];
    const Span unused = spans(device)[1];
    device.commit(in_use);
    device.commit(unused);
    stream.hold();
    stream.mark(in_use.address, in_use.bytes, 9);
    const Fences last_use = one(fence_on(device, stream));
    device.move(in_use.address, elsewhere(in_use).address, in_use.bytes, last_use);
    device.move(unused.address, elsewhere(unused).address, unused.bytes, {});
    device.tidy();
    CHECK(readable(in_use.address));
    CHECK(closed(unused));
    stream.let_go();
    stream.synchronize();
    device.tidy();
    CHECK(closed(in_use));
  });
}

TEST(cuda_device, moved_memory_is_used_at_its_new_place_after_its_last_use_at_the_old) {
  with_device([](CudaDevice& device) {
    FakeStream writer;
    FakeStream reader;
    for (const Span from : spans(device)) {
      const Span to = elsewhere(from);
      std::atomic<int> good{0};
      device.commit(from);
      writer.hold();
      writer.mark(from.address, from.bytes, 9);
      const Fence fence = fence_on(device, writer);
      device.move(from.address, to.address, from.bytes, one(fence));  // neither waits
      device.commit(to);
      {
        const CurrentStream current(reader);
        device.order(fence);
      }
      reader.check(to.address, to.bytes, 9, good);
      fake_run(1000);
      CHECK_EQUAL(good, 0);
      writer.let_go();
      reader.synchronize();
      CHECK_EQUAL(good, 1);
      device.commit(from);
      mark(from.address, from.bytes, 10);
      CHECK(marked(to.address, to.bytes, 9));
      device.decommit(from, {});
    }
  });
}

TEST(cuda_device, a_place_with_an_old_mapping_is_waited_for_when_it_is_needed) {
  with_device([](CudaDevice& device) {
    FakeStream stream;
    for (const Span from : spans(device)) {
      const Span to = elsewhere(from);
      device.commit(from);
      stream.hold();
      stream.mark(from.address, from.bytes, 11);
      device.move(from.address, to.address, from.bytes, one(fence_on(device, stream)));
      Task committer([&] { device.commit(from); });
      // Others go on meanwhile: nothing is locked while it waits.
      device.commit(elsewhere(from, 128));
      device.decommit(elsewhere(from, 128), {});
      CHECK(!committer.done());
      stream.let_go();
      committer.join();
      mark(from.address, from.bytes, 12);
      device.commit(to);
      CHECK(marked(to.address, to.bytes, 11));
      device.decommit(from, {});
    }
  });
}

TEST(cuda_device, new_memory_waits_for_what_leaves_rather_than_exceed_what_was_in_use) {
  with_device([](CudaDevice& device) {
    FakeStream stream;
    for (const Span block : spans(device)) {
      device.commit(block);
      stream.hold();
      stream.mark(block.address, block.bytes, 13);
      device.decommit(block, one(fence_on(device, stream)));
      Task committer([&] { device.commit(elsewhere(block)); });
      CHECK(!committer.done());
      CHECK(counts().handle_bytes <= 2 * frame + page);
      stream.let_go();
      committer.join();
      CHECK(counts().handle_bytes <= 2 * frame + page);
      device.decommit(elsewhere(block), {});
      device.trim();
    }
  });
}

TEST(cuda_device, memory_that_moved_and_then_left_waits_for_the_use_at_its_first_place) {
  with_device([](CudaDevice& device) {
    FakeStream stream;
    const Span from = spans(device)[2];
    const Span to = elsewhere(from);
    device.commit(from);
    stream.hold();
    stream.mark(from.address, from.bytes, 14);
    const Fences last_use = one(fence_on(device, stream));
    device.move(from.address, to.address, from.bytes, last_use);
    device.decommit(to, last_use);
    CHECK(readable(from.address));
    CHECK_EQUAL(device.usage().cached_bytes, 0u);
    stream.let_go();
    stream.synchronize();
    device.commit(to);
    CHECK(closed(from));
    CHECK_EQUAL(device.usage().existing_bytes, from.bytes);
  });
}

TEST(cuda_device, several_threads_allocate_hand_over_and_swap_at_once) {
  with_device([](CudaDevice& device) {
    constexpr std::size_t threads = 4;
    constexpr int rounds = 30;
    std::atomic<int> good{0};
    std::atomic<int> wanted{0};
    const auto work = [&](std::size_t n) {
      std::mt19937_64 random(check::seed() + n);
      FakeStream stream;
      FakeStream other;
      const std::vector<Span> all = spans(device, 16 + 32 * n);
      for (int round = 0; round < rounds; ++round) {
        const Span block = all[random() % all.size()];
        const Span to = elsewhere(block, 256);
        const std::uint64_t cookie = 1000 * n + static_cast<std::uint64_t>(round);
        device.commit(block);
        stream.mark(block.address, block.bytes, cookie);
        const Fence fence = fence_on(device, stream);
        device.move(block.address, to.address, block.bytes, one(fence));
        device.commit(to);
        if (random() % 2 == 0) {
          const CurrentStream current(other);
          device.order(fence);
          other.check(to.address, to.bytes, cookie, good);
          device.decommit(to, one(device.fence()));
        } else {
          device.wait(fence);
          device.begin_fill(to, block);
          device.finish_fill(to, block);
          stream.check(block.address, block.bytes, cookie, good);
          device.decommit(block, one(fence_on(device, stream)));
        }
        ++wanted;
        if (random() % 8 == 0) device.trim();
      }
      stream.synchronize();
      other.synchronize();
    };
    std::vector<std::unique_ptr<Task>> tasks;
    for (std::size_t n = 0; n < threads; ++n) {
      tasks.push_back(std::make_unique<Task>([&work, n] { work(n); }));
    }
    for (const auto& task : tasks) task->join();
    CHECK_EQUAL(good.load(), wanted.load());
    CHECK_EQUAL(device.usage().in_use_bytes, 0u);
    device.trim();
    CHECK_EQUAL(device.usage().existing_bytes, 0u);
  });
}
