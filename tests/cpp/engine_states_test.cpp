// Everything that can be asked of a block, in every state it can be in, on every device and store.
#include <string>
#include <thread>
#include <vector>

#include "core/errors.h"
#include "support/rig.h"
#include "support/task.h"

using namespace swapmem;
using namespace swapmem::test;

namespace {

// What may be asked of a block. It may wait, so it runs in a thread of its own.
struct Action {
  std::string name;
  std::function<void(Rig&, Address)> run;
};

void in_op(Rig& rig, Address block, const std::function<void()>& body) {
  rig.engine().begin_op("action", {&block, 1});
  CHECK(accessible(rig.state(block)));
  body();
  rig.engine().end_op();
}

const std::vector<Action>& actions() {
  static const std::vector<Action> all{
      {"op", [](Rig& rig, Address b) { in_op(rig, b, [&] { CHECK(rig.intact(b)); }); }},
      {"write", [](Rig& rig, Address b) { in_op(rig, b, [&] { rig.write_in_open_op(b); }); }},
      {"pin",
       [](Rig& rig, Address b) {
         rig.engine().pin(b);
         CHECK(accessible(rig.state(b)));
         CHECK(rig.intact(b));
         rig.engine().unpin(b);
       }},
      {"swap_out", [](Rig& rig, Address b) { rig.engine().wait(rig.engine().swap_out(b)); }},
      {"swap_in", [](Rig& rig, Address b) { rig.engine().wait(rig.engine().swap_in(b)); }},
      {"prefetch", [](Rig& rig, Address b) { rig.engine().prefetch({&b, 1}); }},
      {"fault",
       [](Rig& rig, Address b) {
         // As a touching thread does: again, if the block was evicted before it could go on.
         do {
           std::string why;
           if (!rig.engine().fault(b + 8, 0, false, why)) throw InvalidBlock(why);
         } while (!accessible(rig.state(b)));
       }},
  };
  return all;
}

struct Case {
  std::string name;
  Pair pair;
  State state;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = [] {
    std::vector<Case> product;
    for (const Pair& pair : pairs()) {
      for (const State state : allocated_states) {
        product.push_back({pair.name + "/" + name(state), pair, state});
      }
    }
    return product;
  }();
  return all;
}

RigOptions options_for(State state) {
  RigOptions options;
  if (state == State::clean) options.budget_bytes = 8 * block_bytes;
  return options;
}

}  // namespace

TEST_EACH(states, an_action_ends_and_keeps_address_and_bytes, cases()) {
  for (const Action& action : actions()) {
    Rig rig(kind.pair, options_for(kind.state));
    const Address block = rig.reach(kind.state);
    const std::uint64_t id = rig.engine().block(block)->id;
    Task task([&] { action.run(rig, block); });
    rig.open_gates();
    task.join();
    rig.engine().drain();
    rig.check();
    CHECK_EQUAL(rig.engine().block(block)->id, id);
    rig.verify_all();
    rig.finish();
  }
}

TEST_EACH(states, a_block_can_be_freed, cases()) {
  Rig rig(kind.pair, options_for(kind.state));
  const Address block = rig.reach(kind.state);
  rig.free(block);
  CHECK(!rig.engine().block(block).has_value());
  rig.open_gates();
  rig.engine().drain();
  rig.check();
  rig.verify_all();
  rig.finish();
}

TEST_EACH(states, a_freed_block_is_made_again_with_other_bytes, cases()) {
  Rig rig(kind.pair, options_for(kind.state));
  const Address block = rig.reach(kind.state);
  rig.free(block);
  const Address next = rig.make();
  rig.open_gates();
  rig.engine().drain();
  rig.verify(next);
  rig.engine().wait(rig.engine().swap_out(next));
  rig.verify(next);
  rig.finish();
}

// Free while somebody waits for the block: the waiter ends, with or without an error. It does not
// look at the bytes: they may be gone.
TEST_EACH(states, a_block_can_be_freed_while_another_thread_waits_for_it, cases()) {
  const std::vector<Action> waits{
      {"op",
       [](Rig& rig, Address b) {
         rig.engine().begin_op("op", {&b, 1});
         rig.engine().end_op();
       }},
      {"pin",
       [](Rig& rig, Address b) {
         rig.engine().pin(b);
         rig.engine().unpin(b);
       }},
      {"swap_out", [](Rig& rig, Address b) { rig.engine().wait(rig.engine().swap_out(b)); }},
      {"swap_in", [](Rig& rig, Address b) { rig.engine().wait(rig.engine().swap_in(b)); }},
      {"prefetch", [](Rig& rig, Address b) { rig.engine().prefetch({&b, 1}); }},
      {"fault",
       [](Rig& rig, Address b) {
         std::string why;
         rig.engine().fault(b, 0, true, why);
       }},
  };
  for (const Action& action : waits) {
    Rig rig(kind.pair, options_for(kind.state));
    const Address block = rig.reach(kind.state);
    Task task([&] {
      try {
        action.run(rig, block);
      } catch (const InvalidBlock&) {
      }
    });
    rig.free(block);
    rig.open_gates();
    task.join();
    rig.engine().drain();
    rig.verify_all();
    rig.finish();
  }
}

// Two threads at once, in every pair of actions.
TEST_EACH(states, two_actions_at_once_keep_the_bytes, cases()) {
  if (kind.pair.store.name != "memory") return;  // the store makes no difference to the order
  for (const Action& first : actions()) {
    for (const Action& second : actions()) {
      if (first.name == "write" || second.name == "write") continue;  // of the same words: a race
      Rig rig(kind.pair, options_for(kind.state));
      const Address block = rig.reach(kind.state);
      const auto run = [&](const Action& action) {
        try {
          action.run(rig, block);
        } catch (const InvalidBlock&) {
          CHECK(action.name == "swap_out");  // the other holds it
        }
      };
      // What nobody holds may be out again before it is looked at.
      if (first.name == "swap_out" || second.name == "swap_out") {
        if (first.name == "fault" || second.name == "fault") continue;
      }
      Task one([&] { run(first); });
      Task two([&] { run(second); });
      rig.open_gates();
      one.join();
      two.join();
      rig.engine().drain();
      rig.check();
      rig.verify_all();
      rig.finish();
    }
  }
}

namespace {

// The op may be over by then.
void await_open_op(Rig& rig, const Task& op) {
  while (!op.done() && rig.engine().stats().held_bytes == 0) std::this_thread::yield();
}

}  // namespace

TEST_EACH(states, what_is_written_while_a_copy_is_made_is_not_lost, pairs()) {
  Rig rig(kind);
  const Address block = rig.reach(State::cleaning);
  Task write([&] { rig.rewrite(block); });
  if (rig.sees_writes()) {
    write.join();  // while the copy is held
    rig.open_gates();
  } else {
    await_open_op(rig, write);
    rig.open_gates();
    write.join();
  }
  rig.engine().drain();
  CHECK_EQUAL(name(rig.state(block)), std::string("resident"));
  CHECK(rig.intact(block));
  rig.engine().wait(rig.engine().swap_out(block));
  rig.verify(block);
  rig.finish();
}

TEST_EACH(states, what_is_written_to_a_clean_block_is_not_lost, pairs()) {
  Rig rig(kind, options_for(State::clean));
  const Address block = rig.reach(State::clean);
  rig.rewrite(block);
  rig.engine().wait(rig.engine().swap_out(block));
  CHECK_EQUAL(name(rig.state(block)), std::string("out"));
  rig.verify(block);
  rig.finish();
}

TEST_EACH(states, a_block_that_is_needed_while_it_leaves_stays, pairs()) {
  Rig rig(kind);
  const Address block = rig.reach(State::cleaning);
  Task op([&] {
    rig.engine().begin_op("needs it", {&block, 1});
    rig.engine().drain();
    CHECK(accessible(rig.state(block)));
    rig.engine().end_op();
  });
  await_open_op(rig, op);
  rig.open_gates();
  op.join();
  rig.engine().drain();
  CHECK(accessible(rig.state(block)));
  rig.verify(block);
  rig.finish();
}

TEST_EACH(states, a_swap_out_during_a_swap_in_comes_after_it, pairs()) {
  Rig rig(kind);
  const Address block = rig.reach(State::filling);
  Task task([&] { rig.engine().wait(rig.engine().swap_out(block)); });
  rig.open_gates();
  task.join();
  CHECK_EQUAL(name(rig.state(block)), std::string("out"));
  rig.verify(block);
  rig.finish();
}

TEST_EACH(states, a_held_block_is_not_swapped_out, pairs()) {
  Rig rig(kind);
  const Address block = rig.make();
  rig.engine().pin(block);
  rig.engine().pin(block);
  CHECK_THROWS(InvalidBlock, rig.engine().swap_out(block));
  rig.engine().unpin(block);
  CHECK_THROWS(InvalidBlock, rig.engine().swap_out(block));
  rig.engine().unpin(block);
  CHECK_THROWS(InvalidBlock, rig.engine().unpin(block));
  rig.engine().begin_op("op", {&block, 1});
  CHECK_THROWS(InvalidBlock, rig.engine().swap_out(block));
  CHECK_THROWS(InvalidBlock, rig.engine().unpin(block));
  rig.engine().end_op();
  rig.engine().wait(rig.engine().swap_out(block));
  rig.finish();
}

TEST_EACH(states, a_pinned_block_can_be_written_unseen, pairs()) {
  for (const State state : allocated_states) {
    Rig rig(kind, options_for(state));
    const Address block = rig.reach(state);
    Task opener([&] { rig.open_gates(); });
    rig.engine().pin(block);
    opener.join();
    rig.engine().drain();
    CHECK_EQUAL(name(rig.state(block)), std::string("resident"));
    const std::uint64_t cookie = rig.next_cookie();
    fill(block, block_bytes, cookie);
    rig.rewritten_as(block, cookie);
    rig.engine().unpin(block);
    rig.engine().wait(rig.engine().swap_out(block));
    rig.verify(block);
    rig.finish();
  }
}

TEST_EACH(states, one_swap_in_serves_all_who_wait_for_it, pairs()) {
  Rig rig(kind);
  const Address block = rig.reach(State::filling);
  std::vector<std::unique_ptr<Task>> tasks;
  for (int i = 0; i < 4; ++i) {
    tasks.push_back(
        std::make_unique<Task>([&] { in_op(rig, block, [&] { CHECK(rig.intact(block)); }); }));
  }
  rig.open_gates();
  for (const auto& task : tasks) task->join();
  CHECK_EQUAL(rig.engine().stats().swap_in_count, 1u);
  rig.finish();
}

TEST_EACH(states, an_engine_can_end_in_the_middle_of_everything, pairs()) {
  for (const State state : allocated_states) {
    Rig rig(kind, options_for(state));
    rig.reach(state);
    Task opener([&] { rig.open_gates(); });
    opener.join();
  }
}
