// The CUDA device: what is mapped when, and what exists. What device.h promises is in
// device_contract_test.cpp.
#include <array>
#include <random>

#include "core/errors.h"
#include "support/small_device.h"

using namespace swapmem;
using namespace swapmem::cuda;
using namespace swapmem::test;

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
      device.tidy();
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
      device.tidy();
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
        device.tidy();
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

TEST(cuda_device, a_block_is_filled_at_its_begin_before_the_rest_of_it_is_mapped) {
  with_device([](CudaDevice& device) {
    const std::size_t step = device.fill_step_bytes();
    const Address base = device.region().address + 8 * frame;
    const Span block{base - page, page + 2 * frame};  // a head, and whole frames
    const Span staging = elsewhere(block);
    device.commit_staging(staging);
    std::size_t begun = 0;
    for (const std::size_t end : {page, page + frame, page + 2 * frame}) {
      CHECK_EQUAL((block.address + end) % step, 0u);
      const Address to = device.begin_fill({staging.address + begun, end - begun},
                                           {block.address + begun, end - begun});
      CHECK_EQUAL(to, block.address + begun);
      mark(to, end - begun, end);
      if (end < block.bytes) CHECK(closed({block.address + end, page}));
      begun = end;
    }
    device.finish_fill(staging, block);
    begun = 0;
    for (const std::size_t end : {page, page + frame, page + 2 * frame}) {
      CHECK(marked(block.address + begun, end - begun, end));
      begun = end;
    }
    device.decommit(block, {});
    CHECK_EQUAL(counts().mappings, 0u);
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
