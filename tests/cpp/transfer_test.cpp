// The transfer queue: chunks, priorities, errors and the end.
#include <atomic>
#include <cerrno>
#include <set>
#include <vector>

#include "check.h"
#include "core/errors.h"
#include "core/size_class.h"
#include "core/transfer.h"
#include "support/bytes.h"
#include "support/gated.h"
#include "support/memory_store.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

constexpr std::size_t chunk_bytes = page_bytes;

// A queue over a gated store, and jobs that tell how they ended.
struct Bench {
  GatedStore store{std::make_unique<MemoryStore>(std::size_t{64} << 20)};
  std::vector<char> memory = std::vector<char>(64 * chunk_bytes);
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t ended = 0;
  std::size_t failed = 0;
  TransferQueue queue;

  explicit Bench(std::size_t workers) : queue(store, workers, chunk_bytes) {}
  ~Bench() { Gate::open_all(); }

  std::shared_ptr<Job> job(Direction direction, std::size_t chunks, Slot slot = {}) {
    auto job = std::make_shared<Job>();
    job->direction = direction;
    job->bytes = chunks * chunk_bytes;
    job->slot = slot ? slot : store.reserve(job->bytes);
    job->address = reinterpret_cast<Address>(memory.data());
    job->prepare = [](Job& self) { return self.bytes; };
    job->complete = [this](Job& self) {
      std::lock_guard lock(mutex);
      ++ended;
      if (self.error) ++failed;
      changed.notify_all();
    };
    return job;
  }
  void await_ended(std::size_t jobs) {
    std::unique_lock lock(mutex);
    CHECK(changed.wait_for(lock, std::chrono::seconds(60), [&] { return ended >= jobs; }));
    CHECK_EQUAL(ended, jobs);
  }
};

}  // namespace

TEST(transfer, a_job_moves_all_its_chunks_once) {
  for (const std::size_t workers : {1, 4}) {
    for (const std::size_t chunks : {1, 2, 17}) {
      Bench bench(workers);
      fill(reinterpret_cast<Address>(bench.memory.data()), bench.memory.size(), 1);
      const auto out = bench.job(Direction::out, chunks);
      bench.queue.submit(out, Priority::background);
      bench.await_ended(1);
      std::set<std::size_t> offsets;
      for (const auto& call : bench.store.calls()) CHECK(offsets.insert(call.offset).second);
      CHECK_EQUAL(offsets.size(), chunks);
      fill(reinterpret_cast<Address>(bench.memory.data()), bench.memory.size(), 2);
      bench.queue.submit(bench.job(Direction::in, chunks, out->slot), Priority::demand_in);
      bench.await_ended(2);
      CHECK(holds(reinterpret_cast<Address>(bench.memory.data()), chunks * chunk_bytes, 1));
    }
  }
}

TEST(transfer, of_a_job_that_is_cancelled_no_further_chunk_is_copied) {
  Bench bench(1);
  bench.store.writes.close();
  const auto out = bench.job(Direction::out, 17);
  bench.queue.submit(out, Priority::background);
  bench.store.writes.await_waiting(1);
  out->cancelled = true;
  bench.store.writes.open();
  bench.await_ended(1);
  CHECK_EQUAL(bench.store.calls().size(), 1u);
  CHECK_EQUAL(bench.failed, 0u);
}

TEST(transfer, copies_out_whose_turn_has_not_come_hold_one_worker) {
  Gate turn;
  turn.close();
  Bench bench(2);
  for (int i = 0; i < 3; ++i) {
    const auto out = bench.job(Direction::out, 1);
    out->prepare = [&](Job& self) {
      turn.pass();
      return self.bytes;
    };
    bench.queue.submit(out, Priority::demand_out);
  }
  turn.await_waiting(1);
  const Slot slot = bench.store.reserve(16 * chunk_bytes);
  bench.queue.submit(bench.job(Direction::in, 16, slot), Priority::prefetch);
  bench.await_ended(1);
  CHECK_EQUAL(turn.waiting(), 1u);
  turn.open();
  bench.await_ended(4);
}

TEST(transfer, copies_out_leave_half_of_the_workers_to_what_is_prefetched) {
  Bench bench(4);
  bench.store.writes.close();
  bench.store.reads.close();
  const Slot slot = bench.store.reserve(16 * chunk_bytes);
  bench.queue.submit(bench.job(Direction::out, 16), Priority::demand_out);
  bench.store.writes.await_waiting(4);  // nothing else is there: all of them
  bench.queue.submit(bench.job(Direction::in, 16, slot), Priority::prefetch);
  for (const std::size_t readers : {1, 2}) {  // one by one: a job in preparation is in no queue
    bench.store.writes.let_pass(1);
    bench.store.reads.await_waiting(readers);
  }
  bench.store.writes.let_pass(1);
  bench.store.writes.await_waiting(2);
  CHECK_EQUAL(bench.store.reads.waiting(), 2u);
  bench.store.writes.open();
  bench.store.reads.open();
  bench.await_ended(2);
}

TEST(transfer, who_waits_for_copies_in_leaves_half_of_the_workers_to_copies_out) {
  Bench bench(4);
  bench.store.writes.close();
  bench.store.reads.close();
  bench.queue.submit(bench.job(Direction::out, 16), Priority::demand_out);
  bench.store.writes.await_waiting(4);
  const Slot slot = bench.store.reserve(16 * chunk_bytes);
  bench.queue.submit(bench.job(Direction::in, 16, slot), Priority::demand_in);
  for (const std::size_t readers : {1, 2}) {
    bench.store.writes.let_pass(1);
    bench.store.reads.await_waiting(readers);
  }
  bench.store.writes.let_pass(1);
  bench.store.writes.await_waiting(2);
  bench.store.reads.let_pass(1);
  bench.store.reads.await_waiting(2);
  bench.store.writes.await_waiting(2);
  bench.store.writes.open();
  bench.store.reads.open();
  bench.await_ended(2);
}

TEST(transfer, a_block_is_made_ready_to_be_filled_while_the_one_before_is_copied) {
  Bench bench(2);
  bench.store.reads.close();
  Gate preparing;
  const auto ready = [&](Job& self) {
    preparing.pass();
    return self.bytes;
  };
  std::vector<std::shared_ptr<Job>> jobs;
  for (std::size_t i = 0; i < 3; ++i) {
    jobs.push_back(bench.job(Direction::in, 3));
    jobs.back()->address += i * jobs.back()->bytes;
    jobs.back()->prepare = ready;
    fill(reinterpret_cast<Address>(bench.memory.data()), 3 * chunk_bytes, 1);
    bench.store.write(jobs.back()->slot, 0, bench.memory.data(), 3 * chunk_bytes);
  }
  bench.queue.submit(jobs[0], Priority::demand_in);
  bench.store.reads.await_waiting(2);
  preparing.close();
  bench.queue.submit(jobs[1], Priority::demand_in);
  bench.queue.submit(jobs[2], Priority::demand_in);
  bench.store.reads.let_pass(1);
  preparing.await_waiting(1);  // though the first has a chunk left
  bench.store.reads.let_pass(1);
  bench.store.reads.await_waiting(1);
  CHECK_EQUAL(preparing.waiting(), 1u);  // one ahead is enough
  preparing.open();
  bench.store.reads.open();
  bench.await_ended(3);
}

TEST(transfer, what_is_ready_of_a_job_is_copied_while_the_rest_is_prepared) {
  Bench bench(2);
  Gate preparing;
  preparing.close();
  const auto job = bench.job(Direction::in, 5);
  bench.store.write(job->slot, 0, bench.memory.data(), job->bytes);
  job->prepare = [&](Job& self) {
    if (self.ready_bytes == 0) return 2 * chunk_bytes;
    preparing.pass();
    return self.bytes;
  };
  bench.queue.submit(job, Priority::demand_in);
  preparing.await_waiting(1);
  const auto reads = [&] {
    std::set<std::size_t> offsets;
    for (const auto& call : bench.store.calls()) {
      if (!call.write) CHECK(offsets.insert(call.offset).second);
    }
    return offsets.size();
  };
  // The turn of a less urgent job comes when no more of this one is ready.
  bench.queue.submit(bench.job(Direction::out, 1), Priority::background);
  bench.await_ended(1);
  CHECK_EQUAL(reads(), 2u);
  preparing.open();
  bench.await_ended(2);
  CHECK_EQUAL(reads(), 5u);
}

TEST(transfer, a_job_whose_rest_cannot_be_prepared_ends_once_with_the_chunks_under_way) {
  Bench bench(2);
  bench.store.reads.close();
  Gate preparing;
  preparing.close();
  const auto job = bench.job(Direction::in, 4);
  bench.store.write(job->slot, 0, bench.memory.data(), job->bytes);
  job->prepare = [&](Job& self) -> std::size_t {
    if (self.ready_bytes == 0) return 2 * chunk_bytes;
    preparing.pass();
    throw StoreError("no", EIO);
  };
  bench.queue.submit(job, Priority::demand_in);
  preparing.await_waiting(1);
  bench.store.reads.await_waiting(1);
  preparing.open();
  // The other worker is free from here on, and finds nothing of it.
  bench.queue.submit(bench.job(Direction::out, 1), Priority::background);
  bench.await_ended(1);
  CHECK_EQUAL(bench.failed, 0u);
  bench.store.reads.open();
  bench.await_ended(2);
  CHECK_EQUAL(bench.failed, 1u);
}

TEST(transfer, a_job_that_fails_while_the_rest_is_prepared_ends_when_that_has_ended) {
  Bench bench(2);
  Gate preparing;
  preparing.close();
  const auto job = bench.job(Direction::in, 4);
  job->slot = {std::uint64_t{1} << 40, 4 * chunk_bytes};  // no such slot: reads throw
  job->prepare = [&](Job& self) {
    if (self.ready_bytes > 0) preparing.pass();
    return self.ready_bytes + 2 * chunk_bytes;
  };
  bench.queue.submit(job, Priority::demand_in);
  preparing.await_waiting(1);
  bench.queue.submit(bench.job(Direction::out, 1), Priority::background);
  bench.await_ended(1);
  CHECK_EQUAL(bench.failed, 0u);
  preparing.open();
  bench.await_ended(2);
  CHECK_EQUAL(bench.failed, 1u);
}

TEST(transfer, one_large_job_keeps_every_worker_busy) {
  Bench bench(4);
  bench.store.writes.close();
  bench.queue.submit(bench.job(Direction::out, 8), Priority::background);
  bench.store.writes.await_waiting(4);
  bench.store.writes.open();
  bench.await_ended(1);
}

TEST(transfer, an_urgent_job_waits_for_the_chunk_under_way_only) {
  Bench bench(1);
  bench.store.writes.close();
  for (int i = 0; i < 5; ++i) {
    bench.queue.submit(bench.job(Direction::out, 8), Priority::background);
  }
  bench.store.writes.await_waiting(1);
  bench.queue.submit(bench.job(Direction::in, 3), Priority::demand_in);
  bench.store.writes.open();
  bench.await_ended(6);
  const auto calls = bench.store.calls();
  CHECK(calls[0].write);
  for (int i = 1; i <= 3; ++i) CHECK(!calls[static_cast<std::size_t>(i)].write);
}

TEST(transfer, a_job_that_is_raised_overtakes_and_is_never_put_back) {
  Bench bench(1);
  bench.store.writes.close();
  bench.queue.submit(bench.job(Direction::out, 1), Priority::demand_out);
  bench.store.writes.await_waiting(1);
  const auto first = bench.job(Direction::out, 1);
  const auto second = bench.job(Direction::out, 1);
  bench.queue.submit(first, Priority::background);
  bench.queue.submit(second, Priority::background);
  bench.queue.raise(second, Priority::demand_out);
  bench.queue.raise(second, Priority::background);
  bench.store.writes.open();
  bench.await_ended(3);
  const auto calls = bench.store.calls();
  CHECK_EQUAL(calls[1].slot, second->slot.offset);
  CHECK_EQUAL(calls[2].slot, first->slot.offset);
}

TEST(transfer, a_job_can_be_raised_while_it_is_being_prepared) {
  Bench bench(2);
  Gate preparing;
  preparing.close();
  const auto slow = bench.job(Direction::out, 2);
  slow->prepare = [&](Job& self) {
    preparing.pass();
    return self.bytes;
  };
  bench.queue.submit(slow, Priority::background);
  preparing.await_waiting(1);
  bench.queue.raise(slow, Priority::demand_out);
  preparing.open();
  bench.await_ended(1);
  CHECK_EQUAL(bench.store.calls().size(), 2u);
}

TEST(transfer, a_job_that_is_not_wanted_any_more_ends_without_a_copy) {
  Bench bench(2);
  const auto job = bench.job(Direction::out, 4);
  job->prepare = [](Job&) { return 0; };
  bench.queue.submit(job, Priority::background);
  bench.await_ended(1);
  CHECK(bench.store.calls().empty());
  CHECK_EQUAL(bench.failed, 0u);
}

TEST(transfer, after_an_error_no_chunk_is_started_and_the_job_ends_once) {
  for (const std::size_t workers : {1, 3}) {
    for (const bool in_prepare : {true, false}) {
      Bench bench(workers);
      const auto job = bench.job(Direction::in, 16);
      if (in_prepare) {
        job->prepare = [](Job&) -> std::size_t { throw StoreError("no", EIO); };
      } else {
        job->slot = {std::uint64_t{1} << 40, 16 * chunk_bytes};  // no such slot: reads throw
      }
      bench.queue.submit(job, Priority::background);
      bench.await_ended(1);
      CHECK_EQUAL(bench.failed, 1u);
      CHECK(bench.store.calls().size() <= (in_prepare ? 0 : workers));
      bench.queue.submit(bench.job(Direction::out, 2), Priority::background);
      bench.await_ended(2);
      CHECK_EQUAL(bench.failed, 1u);
    }
  }
}

TEST(transfer, the_end_of_the_queue_finishes_every_job) {
  std::size_t ended = 0;
  std::mutex mutex;
  {
    GatedStore store(std::make_unique<MemoryStore>(std::size_t{64} << 20));
    std::vector<char> memory(8 * chunk_bytes);
    TransferQueue queue(store, 2, chunk_bytes);
    store.writes.close();
    for (int i = 0; i < 20; ++i) {
      auto job = std::make_shared<Job>();
      job->bytes = memory.size();
      job->slot = store.reserve(job->bytes);
      job->address = reinterpret_cast<Address>(memory.data());
      job->prepare = [](Job& self) { return self.bytes; };
      job->complete = [&](Job&) {
        std::lock_guard lock(mutex);
        ++ended;
      };
      queue.submit(job, Priority::background);
    }
    store.writes.await_waiting(2);
    store.writes.open();
  }
  CHECK_EQUAL(ended, 20u);
}
