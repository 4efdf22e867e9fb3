// The CUDA device: what is mapped when, what exists, and what is left after a failure. What
// device.h promises is in device_contract_test.cpp.
#include "cuda/cuda_device.h"

#include <array>
#include <functional>
#include <random>

#include "core/errors.h"
#include "support/fake_cuda.h"
#include "support/probe.h"
#include "support/process.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::cuda;
using namespace swapmem::test;

namespace {

constexpr std::size_t page = std::size_t{2} << 20;
constexpr std::size_t frame = 4 * page;
constexpr std::size_t address_bytes = std::size_t{4} << 30;

std::unique_ptr<CudaDevice> make_device(int ordinal = 0) {
  return std::make_unique<CudaDevice>(ordinal, frame, address_bytes);
}

// It ends with nothing left and nothing reported.
void with_device(const std::function<void(CudaDevice&)>& body, int devices = 1) {
  const FakeCuda fake(devices);
  {
    const auto device = make_device();
    body(*device);
  }
  fake.finish();
}

// As the engine places them: pages, a frame, frames behind a head.
std::vector<Span> spans(const CudaDevice& device, std::size_t first_frame = 16) {
  const Address base = device.region().address + first_frame * frame;
  return {
      {base + page, page}, {base + 8 * frame, frame}, {base + 16 * frame - page, page + 2 * frame}};
}

Span elsewhere(Span span, std::size_t frames = 64) {
  return {span.address + frames * frame, span.bytes};
}

void evict(CudaDevice& device, Span block, Span parked) {
  device.move(block.address, parked.address, block.bytes, {});
}

Fence fence_on(CudaDevice& device, CUstream stream) {
  const CurrentStream current(stream);
  return device.fence();
}

Fences one(Fence fence) {
  Fences fences;
  fences.add(fence);
  return fences;
}

bool closed(Span span) {
  for (Address at = span.address; at < span.end(); at += page) {
    if (readable(at)) return false;
  }
  return true;
}

}  // namespace

// --- memory and its bytes

TEST(cuda_device, the_region_is_made_of_frames_and_closed) {
  with_device([](CudaDevice& device) {
    CHECK_EQUAL(device.unit_bytes(), page);
    CHECK_EQUAL(device.frame_bytes(), frame);
    CHECK_EQUAL(device.region().address % frame, 0u);
    CHECK_EQUAL(device.region().bytes % frame, 0u);
    CHECK(!readable(device.region().address));
    CHECK(!device.sees_writes());
    CHECK(!device.sees_touches());
    CHECK(!device.commits_zeros());
    CHECK_EQUAL(counts().handles, 0u);
  });
}

TEST(cuda_device, bytes_survive_a_round_trip_through_the_host) {
  with_device([](CudaDevice& device) {
    const auto link = device.link();
    for (const Span block : spans(device)) {
      const Span parked = elsewhere(block);
      const Span staging = elsewhere(block, 128);
      std::vector<std::uint64_t> host(block.bytes / sizeof(std::uint64_t));
      link->pin(host.data(), block.bytes);
      device.commit(block);
      fill(block.address, block.bytes, 1);
      link->copy_out(host.data(), reinterpret_cast<void*>(block.address), block.bytes);
      evict(device, block, parked);
      CHECK(closed(block));
      device.commit(parked);
      mark(parked.address, parked.bytes, 2);
      device.commit_staging(staging);
      const Address to = device.begin_fill(staging, block);
      CHECK_EQUAL(to, block.address);
      link->copy_in(reinterpret_cast<void*>(to), host.data(), block.bytes);
      device.finish_fill(staging, block);
      CHECK(holds(block.address, block.bytes, 1));
      CHECK(marked(parked.address, parked.bytes, 2));
      CHECK(closed(staging));
      link->unpin(host.data(), block.bytes);
    }
  });
}

TEST(cuda_device, whole_blocks_keep_their_handles_and_bytes_when_they_move) {
  with_device([](CudaDevice& device) {
    for (const Span block : spans(device)) {
      const Span to = elsewhere(block);
      device.commit(block);
      mark(block.address, block.bytes, 3);
      const std::uint64_t created = fake_calls("cuMemCreate");
      device.move(block.address, to.address, block.bytes, {});
      CHECK(closed(block));
      CHECK(closed(to));  // parked memory costs no mapping
      device.commit(to);
      CHECK(marked(to.address, to.bytes, 3));
      CHECK(closed(block));
      CHECK_EQUAL(fake_calls("cuMemCreate"), created);
    }
  });
}

TEST(cuda_device, committing_again_keeps_what_is_there_and_calls_nothing) {
  with_device([](CudaDevice& device) {
    for (const Span block : spans(device)) {
      device.commit({block.address, page});
      mark(block.address, page, 4);
      device.commit(block);
      CHECK(marked(block.address, page, 4));
      const std::uint64_t mapped = fake_calls("cuMemMap") + fake_calls("cuMemSetAccess");
      device.commit(block);
      CHECK_EQUAL(fake_calls("cuMemMap") + fake_calls("cuMemSetAccess"), mapped);
    }
  });
}

TEST(cuda_device, large_memory_is_in_frames_and_one_call_opens_all_neighbours) {
  with_device([](CudaDevice& device) {
    const Span block{device.region().address + 8 * frame - page, page + 4 * frame};
    device.commit(block);
    CHECK_EQUAL(fake_calls("cuMemCreate"), 5u);
    CHECK_EQUAL(fake_calls("cuMemMap"), 5u);
    CHECK_EQUAL(fake_calls("cuMemSetAccess"), 1u);
    const Span gap{block.address + page + frame, frame};
    const Span last{block.end() - frame, frame};
    device.decommit(gap, {});
    device.decommit(last, {});
    device.commit(block);
    CHECK_EQUAL(fake_calls("cuMemSetAccess"), 3u);
  });
}

TEST(cuda_device, decommitted_memory_is_closed_and_serves_the_next_commit) {
  with_device([](CudaDevice& device) {
    for (const Span block : spans(device)) {
      device.commit(block);
      device.decommit(block, {});
      CHECK(closed(block));
      CHECK_EQUAL(device.usage().in_use_bytes, 0u);
      const std::uint64_t created = fake_calls("cuMemCreate");
      device.commit(elsewhere(block));
      CHECK_EQUAL(fake_calls("cuMemCreate"), created);
      device.decommit(elsewhere(block), {});
      device.trim();
    }
  });
}

TEST(cuda_device, trim_gives_everything_back_that_nobody_uses) {
  with_device([](CudaDevice& device) {
    const std::vector<Span> all = spans(device);
    for (const Span block : all) device.commit(block);
    mark(all[0].address, all[0].bytes, 5);
    FakeStream stream;
    device.decommit(all[1], {});
    device.decommit(all[2], one(fence_on(device, stream)));
    device.trim();
    CHECK_EQUAL(device.usage().cached_bytes, 0u);
    CHECK_EQUAL(device.usage().existing_bytes, all[0].bytes);
    CHECK_EQUAL(counts().handle_bytes, all[0].bytes);
    CHECK(marked(all[0].address, all[0].bytes, 5));
  });
}

TEST(cuda_device, a_handle_that_the_driver_does_not_take_back_is_kept_and_tried_again) {
  with_device([](CudaDevice& device) {
    const Span block = spans(device)[2];
    device.commit(block);
    device.decommit(block, {});
    fake_fail("cuMemRelease", 1, CUDA_ERROR_UNKNOWN, 1);
    device.trim();
    CHECK_EQUAL(device.usage().existing_bytes, block.bytes);
    fake_fail_none();
    device.trim();
    CHECK_EQUAL(device.usage().existing_bytes, 0u);
  });
}

TEST(cuda_device, a_handle_that_the_driver_does_not_take_back_is_in_nobodys_way) {
  with_device([](CudaDevice& device) {
    const Address base = device.region().address;
    device.commit({base, page});
    device.decommit({base, page}, {});
    fake_fail("cuMemRelease", 1, CUDA_ERROR_NOT_PERMITTED, 1);
    device.commit({base + frame, frame});  // for which the page would have to go
    mark(base + frame, frame, 13);
    CHECK(marked(base + frame, frame, 13));
    CHECK_EQUAL(device.usage().cached_bytes, page);
    fake_fail_none();
  });
}

TEST(cuda_device, an_unmap_refused_beside_another_call_does_not_fail_it) {
  with_device([](CudaDevice& device) {
    const Span span{device.region().address, frame};
    const Span other{span.end(), frame};
    device.commit({span.address, 2 * frame});
    device.decommit(other, {});  // its memory will do for the next commit
    FakeStream stream;
    stream.hold();
    stream.mark(span.address, span.bytes, 14);
    device.decommit(span, one(fence_on(device, stream)));
    stream.let_go();
    stream.synchronize();
    fake_fail("cuMemUnmap", 1, CUDA_ERROR_NOT_PERMITTED, 1);
    device.commit(other);
    CHECK_THROWS(DeviceError, device.commit(span));  // this one needs the place
    fake_fail_none();
    device.commit(span);
    mark(span.address, span.bytes, 15);
    CHECK(marked(span.address, span.bytes, 15));
  });
}

TEST(cuda_device, the_cache_is_bounded) {
  with_device([](CudaDevice& device) {
    const Span large{device.region().address, 20 * frame};
    device.commit(large);
    device.decommit(large, {});
    CHECK_EQUAL(device.usage().cached_bytes, std::size_t{64} << 20);
    CHECK_EQUAL(counts().handle_bytes, std::size_t{64} << 20);
  });
}

TEST(cuda_device, a_part_of_a_frame_takes_the_memory_of_all_of_it) {
  with_device([](CudaDevice& device) {
    const Span whole{device.region().address + 8 * frame, frame};
    const Span rest{whole.address, page};
    const Span part{whole.address + page, 3 * page};
    const Span to = elsewhere(part);
    for (const bool moved : {true, false}) {
      device.commit(whole);
      const std::size_t before = device.usage().in_use_bytes;
      if (moved) {
        device.move(part.address, to.address, part.bytes, {});
      } else {
        device.decommit(part, {});
      }
      CHECK_EQUAL(device.usage().in_use_bytes, before - frame);
      CHECK(closed(whole));
      device.commit(rest);
      mark(rest.address, rest.bytes, 6);
      device.commit(to);
      mark(to.address, to.bytes, 7);
      CHECK(marked(rest.address, rest.bytes, 6));
      CHECK(closed(part));
      CHECK(device.usage().existing_bytes <= frame);
      device.decommit(rest, {});
      device.decommit(to, {});
    }
  });
}

TEST(cuda_device, frames_change_into_pages_and_back_without_more_memory_than_was_in_use) {
  with_device([](CudaDevice& device) {
    const Span frames{device.region().address + 8 * frame, 3 * frame};
    std::vector<Span> pages;
    for (std::size_t i = 0; i < 12; ++i) {
      pages.push_back({device.region().address + (32 + i) * frame + page, page});
    }
    for (int round = 0; round < 3; ++round) {
      device.commit(frames);
      CHECK_EQUAL(counts().handle_bytes, 3 * frame);
      device.decommit(frames, {});
      for (const Span span : pages) {
        device.commit(span);
        CHECK(counts().handle_bytes <= 3 * frame);
      }
      for (const Span span : pages) device.decommit(span, {});
    }
  });
}

// --- what still runs

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

// --- fills

TEST(cuda_device, staging_memory_is_mapped_at_the_block_alone) {
  with_device([](CudaDevice& device) {
    for (const Span block : spans(device)) {
      const Span staging = elsewhere(block);
      const std::size_t handles = block.bytes > frame ? 3 : 1;
      const std::uint64_t mapped = fake_calls("cuMemMap");
      const std::uint64_t unmapped = fake_calls("cuMemUnmap");
      device.commit_staging(staging);
      CHECK(closed(staging));
      const Address to = device.begin_fill(staging, block);
      mark(to, block.bytes, 15);
      device.finish_fill(staging, block);
      CHECK(marked(block.address, block.bytes, 15));
      CHECK_EQUAL(fake_calls("cuMemMap"), mapped + handles);
      CHECK_EQUAL(fake_calls("cuMemUnmap"), unmapped);
      CHECK_EQUAL(counts().mappings, handles);
      device.decommit(block, {});
      device.trim();
    }
  });
}

TEST(cuda_device, a_fill_that_failed_leaves_the_memory_with_the_staging_block) {
  with_device([](CudaDevice& device) {
    for (const bool told : {true, false}) {
      for (const Span block : spans(device)) {
        const Span staging = elsewhere(block);
        const Span other = elsewhere(block, 128);
        device.commit(staging);
        mark(device.begin_fill(staging, block), block.bytes, 16);
        if (told) {
          device.decommit(block, {});
          CHECK(closed(block));
        }
        CHECK_EQUAL(device.usage().in_use_bytes, block.bytes);
        device.move(staging.address, other.address, staging.bytes, {});  // to whoever needs it
        device.commit(other);
        mark(other.address, other.bytes, 17);
        device.commit_staging(staging);
        mark(device.begin_fill(staging, block), block.bytes, 18);
        device.finish_fill(staging, block);
        CHECK(marked(block.address, block.bytes, 18));
        CHECK(marked(other.address, other.bytes, 17));
        device.decommit(block, {});
        device.decommit(other, {});
        device.trim();
        CHECK_EQUAL(counts().mappings, 0u);
        CHECK_EQUAL(counts().handles, 0u);
      }
    }
  });
}

TEST(cuda_device, a_block_that_starts_elsewhere_in_a_frame_is_refused) {
  with_device([](CudaDevice& device) {
    const Span staging{device.region().address + 8 * frame, frame};
    device.commit(staging);
    CHECK_THROWS(DeviceError, device.begin_fill(staging, {staging.end() + page, frame}));
    CHECK_EQUAL(counts().mappings, 1u);
  });
}

// --- failures

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

// --- several devices, other people's contexts, other processes

TEST(cuda_device, what_is_current_in_the_thread_stays_current) {
  const FakeCuda fake(2);
  {
    const auto first = make_device(0);
    const auto second = make_device(1);
    const Context other(1);
    const auto use = [](CudaDevice& device) {
      for (const Span block : spans(device)) {
        device.commit(block);
        mark(block.address, block.bytes, 23);
        device.move(block.address, elsewhere(block).address, block.bytes, {});
        device.begin_fill(elsewhere(block), block);
        device.finish_fill(elsewhere(block), block);
        CHECK(marked(block.address, block.bytes, 23));
        device.decommit(block, {});
      }
      device.trim();
    };
    CUcontext current = nullptr;
    use(*first);
    use(*second);
    driver().cuCtxGetCurrent(&current);
    CHECK(current == nullptr);
    const Context::Scope scope(other);
    use(*first);
    use(*second);
    driver().cuCtxGetCurrent(&current);
    CHECK(current == other.handle());
  }
  fake.finish();
}

TEST(cuda_device, a_device_waits_for_work_before_it_goes) {
  const FakeCuda fake;
  {
    FakeStream stream;
    const Context context(0);
    {
      const auto device = make_device();
      const std::vector<Span> all = spans(*device);
      for (const Span block : all) {
        device->commit(block);
        stream.mark(block.address, block.bytes, 24);
      }
      device->decommit(all[2], one(fence_on(*device, stream)));
    }
    CHECK_EQUAL(report_text(), "");
  }
  fake.finish();
}

TEST(cuda_device, a_context_that_somebody_destroyed_is_an_error_and_not_the_end) {
  const FakeCuda fake;
  {
    const auto device = make_device();
    const std::vector<Span> all = spans(*device);
    FakeStream stream;
    stream.hold();
    device->commit(all[0]);
    device->commit(all[1]);
    device->decommit(all[1], one(fence_on(*device, stream)));
    const Fence fence = fence_on(*device, stream);
    fake_break_context(0, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    CHECK_THROWS(DeviceError, device->commit(all[1]));  // whose old mapping cannot be waited for
    CHECK_THROWS(DeviceError, device->wait(fence));
    CHECK_THROWS(DeviceError, device->fence());
    CHECK_THROWS(DeviceError, device->trim());
    stream.let_go();
  }
  fake_reset();
}

TEST(cuda_device, a_forked_child_is_told_and_can_end) {
  with_device([](CudaDevice& device) {
    const Span block = spans(device)[0];
    device.commit(block);
    mark(block.address, block.bytes, 25);
    const Ended ended = in_fork([&] {
      int code = 1;
      try {
        device.commit(elsewhere(block));
      } catch (const DeviceError& error) {
        code = error.code == CUDA_ERROR_NOT_INITIALIZED ? 0 : 2;
      }
      device.~CudaDevice();
      return code;
    });
    CHECK(ended.exited(0));
    CHECK(marked(block.address, block.bytes, 25));
  });
}

// --- several threads

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
