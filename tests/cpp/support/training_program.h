// An iteration of training as tests/planner/virtual_gpu.py writes it down: numbers and names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <istream>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/engine.h"
#include "fake_driver/fake_driver.h"

namespace swapmem::test {

template <typename T>
T read(std::istream& in) {
  T value{};
  if (!(in >> value)) throw std::runtime_error("the program ends too early");
  return value;
}

inline std::uint32_t read_index(std::istream& in) {
  const auto value = read<std::int64_t>(in);
  return value < 0 ? no_plan_block : static_cast<std::uint32_t>(value);
}

template <typename Read>
auto read_list(std::istream& in, Read read_one) {
  std::vector<decltype(read_one(in))> list(read<std::size_t>(in));
  for (auto& value : list) value = read_one(in);
  return list;
}

inline std::vector<std::uint32_t> read_indices(std::istream& in) {
  return read_list(in, read_index);
}

struct Machine {
  std::size_t budget_bytes, store_bytes, granularity_bytes, frame_bytes;
  EngineOptions engine;
  FakeRates rates{};
  FakeCosts costs{};
  FakeDelays delays{};
};

inline Machine read_machine(std::istream& in) {
  Machine machine{};
  machine.budget_bytes = machine.engine.budget_bytes = read<std::size_t>(in);
  for (std::size_t* bytes : {&machine.store_bytes, &machine.granularity_bytes, &machine.frame_bytes,
                             &machine.engine.chunk_bytes, &machine.engine.part_bytes}) {
    *bytes = read<std::size_t>(in);
  }
  machine.engine.workers = read<std::size_t>(in);
  machine.rates.to_host = read<double>(in);
  machine.rates.to_device = read<double>(in);
  FakeCosts& costs = machine.costs;
  FakeDelays& delays = machine.delays;
  for (double* seconds : {&costs.create, &costs.map, &costs.set_access, &costs.unmap,
                          &costs.release, &delays.queue, &delays.wake}) {
    *seconds = read<double>(in);
  }
  return machine;
}

struct Op {
  std::string name;
  double seconds, gap_seconds;
  std::vector<std::uint32_t> touches;
};

struct Change {
  std::size_t slot;
  std::uint32_t block;
  bool allocates;
};

struct ProgramBlock {
  std::size_t bytes;
  bool at_begin;  // is there when an iteration begins
  std::uint32_t carried_from;
  std::uint32_t part;  // of its array, from 0; the parts of one follow each other
};

struct TrainingProgram {
  Machine machine;
  std::size_t iterations;
  double tail_seconds;
  std::vector<ProgramBlock> blocks;
  std::vector<Op> ops;
  std::vector<Change> changes;
  bool planned;
  Plan plan;  // the addresses of its blocks are their numbers in the program
};

inline Plan read_plan(std::istream& in) {
  Plan plan;
  plan.blocks = read_list(in, [](std::istream& i) {
    PlanBlock block;
    block.capacity_bytes = read<std::size_t>(i);
    block.address = read_index(i);
    block.carried_from = read_index(i);
    block.slot = read_index(i);
    block.ordinal = read_index(i);
    return block;
  });
  plan.leave = read_indices(in);
  plan.steps = read_list(in, [](std::istream& i) {
    PlanStep step;
    step.fetch = read_indices(i);
    step.leave = read_indices(i);
    step.need_bytes = read<std::size_t>(i);
    return step;
  });
  return plan;
}

inline TrainingProgram read_program(std::istream& in) {
  TrainingProgram program;
  program.machine = read_machine(in);
  program.iterations = read<std::size_t>(in);
  program.tail_seconds = read<double>(in);
  program.blocks = read_list(in, [](std::istream& i) {
    const auto bytes = read<std::size_t>(i);
    const bool at_begin = read<int>(i) != 0;
    const std::uint32_t carried_from = read_index(i);
    return ProgramBlock{bytes, at_begin, carried_from, read_index(i)};
  });
  program.ops = read_list(in, [](std::istream& i) {
    Op op;
    op.name = read<std::string>(i);
    op.seconds = read<double>(i);
    op.gap_seconds = read<double>(i);
    op.touches = read_indices(i);
    return op;
  });
  program.changes = read_list(in, [](std::istream& i) {
    const auto slot = read<std::size_t>(i);
    const std::uint32_t block = read_index(i);
    return Change{slot, block, read<int>(i) != 0};
  });
  program.planned = read<int>(in) != 0;
  if (program.planned) program.plan = read_plan(in);
  return program;
}

}  // namespace swapmem::test
