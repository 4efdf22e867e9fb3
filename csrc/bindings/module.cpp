// The Python module swapmem._core. Thin: every rule is the engine's.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/array_pool.h"
#include "bindings/arrays.h"
#include "bindings/cuda_engine.h"
#include "bindings/host_runtime.h"
#include "bindings/make_engine.h"
#include "bindings/numpy_handler.h"
#include "core/plan.h"
#include "core/size_class.h"
#include "cuda/streams.h"
#include "host/available_memory.h"
#include "host/checksum_store.h"
#include "host/file_store.h"
#include "host/host_device.h"
#include "host/pinned_store.h"
#include "host/tiered_store.h"

namespace py = pybind11;
using namespace py::literals;

namespace swapmem {

namespace {

using release_gil = py::call_guard<py::gil_scoped_release>;
using Addresses = std::vector<Address>;

// What comes from a program names the stream that is current there, at each call anew. Host engines
// have no streams and pay no heed.
class Stream {
 public:
  explicit Stream(std::uintptr_t handle) : current_(reinterpret_cast<cuda::CUstream>(handle)) {}

 private:
  const cuda::CurrentStream current_;
};

// A ticket that keeps the engine it belongs to alive.
struct PyTicket {
  std::shared_ptr<Runtime> runtime;
  Ticket ticket;
};

// RAM, swapped out as a GPU's memory is: only what was offered. A touch that would have been fatal
// on a GPU is a fault here, served and counted.
class RehearsalDevice final : public HostDevice {
 public:
  bool sees_touches() const override { return false; }
};

template <typename DeviceType>
std::shared_ptr<Runtime> host_engine(std::size_t budget_bytes, const std::string& spill_dir,
                                     std::size_t spill_bytes, bool reserve_now, bool checksum,
                                     bool paranoid, std::size_t workers, std::size_t chunk_bytes) {
  std::unique_ptr<Store> store = std::make_unique<FileStore>(spill_dir, spill_bytes, reserve_now);
  if (checksum) store = std::make_unique<ChecksumStore>(std::move(store));
  return std::make_shared<HostRuntime>(
      make_engine(std::make_unique<DeviceType>(), std::move(store), paranoid,
                  {.budget_bytes = budget_bytes, .workers = workers, .chunk_bytes = chunk_bytes}));
}

py::dict tier(const char* name, const TierUse& use) {
  return py::dict("name"_a = name, "used_bytes"_a = use.used_bytes, "peak_bytes"_a = use.peak_bytes,
                  "budget_bytes"_a = use.budget_bytes);
}

// What the store is made of, the nearest first.
py::list store_tiers(const Store& store) {
  py::list tiers;
  if (const auto* tiered = dynamic_cast<const TieredStore*>(&store)) {
    tiers.append(tier("pinned", tiered->pinned_tier()));
    tiers.append(tier("file", tiered->file_tier()));
  } else {
    const bool pinned = dynamic_cast<const PinnedStore*>(&store) != nullptr;
    tiers.append(tier(pinned ? "pinned" : "file",
                      {store.used_bytes(), store.peak_bytes(), store.budget_bytes()}));
  }
  return tiers;
}

py::dict stats(Runtime& self) {
  const Stats s = self.readable_engine().stats();
  py::list by_op;
  for (const OpStats& op : s.by_op) {
    by_op.append(py::dict("op"_a = op.name, "calls"_a = op.calls, "seconds"_a = op.seconds,
                          "stall_seconds"_a = op.stall_seconds,
                          "swap_in_bytes"_a = op.swap_in_bytes, "faults"_a = op.faults,
                          "peak_bytes"_a = op.peak_bytes));
  }
  return py::dict(
      "budget_bytes"_a = s.budget_bytes, "charged_bytes"_a = s.charged_bytes,
      "peak_charged_bytes"_a = s.peak_charged_bytes, "live_bytes"_a = s.live_bytes,
      "peak_live_bytes"_a = s.peak_live_bytes, "resident_bytes"_a = s.resident_bytes,
      "peak_resident_bytes"_a = s.peak_resident_bytes, "cached_bytes"_a = s.cached_bytes,
      "held_bytes"_a = s.held_bytes, "store_bytes"_a = s.store_bytes,
      "peak_store_bytes"_a = s.peak_store_bytes, "store_budget_bytes"_a = s.store_budget_bytes,
      "swap_out_bytes"_a = s.swap_out_bytes, "swap_in_bytes"_a = s.swap_in_bytes,
      "swap_out_count"_a = s.swap_out_count, "swap_in_count"_a = s.swap_in_count,
      "swap_out_busy_seconds"_a = s.swap_out_busy_seconds,
      "swap_in_busy_seconds"_a = s.swap_in_busy_seconds,
      "duplex_busy_seconds"_a = s.duplex_busy_seconds,
      "swap_out_duplex_bytes"_a = s.swap_out_duplex_bytes,
      "swap_in_duplex_bytes"_a = s.swap_in_duplex_bytes, "clean_evictions"_a = s.clean_evictions,
      "transfer_errors"_a = s.transfer_errors, "stall_seconds"_a = s.stall_seconds,
      "faults"_a = s.faults, "fault_seconds"_a = s.fault_seconds, "allocations"_a = s.allocations,
      "frees"_a = s.frees, "warm_hits"_a = s.warm_hits, "iterations"_a = s.iterations,
      "planned_iterations"_a = s.planned_iterations, "plan_misses"_a = s.plan_misses,
      "unplanned_evictions"_a = s.unplanned_evictions, "largest_op_bytes"_a = s.largest_op_bytes,
      "largest_op"_a = s.largest_op, "by_op"_a = by_op,
      "store_tiers"_a = store_tiers(self.readable_engine().store()));
}

const char* kind_name(EventKind kind) {
  switch (kind) {
    case EventKind::allocate:
      return "allocate";
    case EventKind::free:
      return "free";
    case EventKind::begin_op:
      return "begin_op";
    case EventKind::end_op:
      return "end_op";
    case EventKind::swap_out:
      return "swap_out";
    case EventKind::swap_in:
      return "swap_in";
    case EventKind::evict:
      return "evict";
    case EventKind::fault:
      return "fault";
    case EventKind::stall:
      return "stall";
    case EventKind::iteration:
      return "iteration";
    case EventKind::unplanned:
      return "unplanned";
  }
  return "?";
}

py::list trace(Runtime& self) {
  const std::vector<Event> events = self.readable_engine().trace();
  const std::vector<std::string> names = self.readable_engine().op_names();  // after: it only grows
  py::list result;
  for (const Event& e : events) {
    result.append(py::make_tuple(e.time_seconds, kind_name(e.kind), e.block, e.bytes, names[e.op],
                                 e.seconds, e.resident_bytes, e.charged_bytes));
  }
  return result;
}

py::list faults(Runtime& self) {
  const std::vector<FaultRecord> records = self.readable_engine().faults();
  const std::vector<std::string> names = self.readable_engine().op_names();
  py::list result;
  for (const FaultRecord& f : records) {
    result.append(py::make_tuple(f.time_seconds, names[f.op], f.block, f.bytes, f.seconds));
  }
  return result;
}

const char* kind_name(RecordKind kind) {
  switch (kind) {
    case RecordKind::exists:
      return "exists";
    case RecordKind::begin_op:
      return "begin_op";
    case RecordKind::touch:
      return "touch";
    case RecordKind::allocate:
      return "allocate";
    case RecordKind::free:
      return "free";
    case RecordKind::fault:
      return "fault";
    case RecordKind::stall:
      return "stall";
    case RecordKind::end_op:
      return "end_op";
  }
  return "?";
}

// The items of a record, each made into a tuple when it is asked for: all of them take megabytes,
// beside a budget that is used up.
class RecordItems {
 public:
  RecordItems(std::vector<RecordItem> items, const std::vector<std::string>& names)
      : items_(std::move(items)) {
    for (const std::string& name : names) names_.push_back(py::str(name));
  }

  py::tuple next() {
    if (next_ == items_.size()) throw py::stop_iteration();
    const RecordItem& item = items_[next_++];
    return py::make_tuple(kind_name(item.kind), item.seconds, item.block, item.address, item.bytes,
                          names_[item.op], item.may_leave);
  }

 private:
  const std::vector<RecordItem> items_;
  std::vector<py::str> names_;
  std::size_t next_ = 0;
};

// Begin and end in seconds, and items (kind, seconds, block, address, bytes, op, may leave).
py::tuple last_iteration(Runtime& self) {
  Engine& engine = self.readable_engine();
  Record record = [&] {
    const py::gil_scoped_release released;  // it may wait for work that needs the lock
    return engine.last_iteration();
  }();
  return py::make_tuple(record.begun_seconds, record.ended_seconds,
                        RecordItems(std::move(record.items), engine.op_names()));
}

// A block is (capacity, address, id, carried_from, slot, ordinal), a step (op, blocks to fetch,
// blocks to leave, bytes it needs); -1 stands for none.
using PyPlanBlock = std::tuple<std::size_t, Address, std::uint64_t, int, int, std::uint32_t>;
using PyPlanStep =
    std::tuple<std::string, std::vector<std::uint32_t>, std::vector<std::uint32_t>, std::size_t>;

void set_plan(Runtime& self, const std::vector<PyPlanBlock>& blocks,
              const std::vector<std::uint32_t>& leave, const std::vector<PyPlanStep>& steps) {
  const auto number = [](int n) { return n < 0 ? no_plan_block : static_cast<std::uint32_t>(n); };
  Plan plan;
  plan.leave = leave;
  for (const auto& [capacity_bytes, address, id, carried_from, slot, ordinal] : blocks) {
    plan.blocks.push_back(
        {capacity_bytes, address, id, number(carried_from), number(slot), ordinal});
  }
  std::vector<std::string> ops;
  for (const auto& [op, fetches, leaves, need_bytes] : steps) {
    ops.push_back(op);
    plan.steps.push_back({0, fetches, leaves, need_bytes});
  }
  if (!self.in_forked_child()) self.engine().set_plan(std::move(plan), ops);
}

py::object block(Runtime& self, Address address) {
  const std::optional<BlockInfo> info = self.readable_engine().block(address);
  if (!info) return py::none();
  return py::make_tuple(info->id, info->address, info->bytes, name(info->state), info->holds > 0,
                        info->pins > 0);
}

void translate(std::exception_ptr pointer) {
  if (!pointer) return;
  const auto raise = [](const char* type, const py::tuple& arguments) {
    const py::object cls = py::module_::import("swapmem.errors").attr(type);
    const py::object error = cls(*arguments);
    PyErr_SetObject(cls.ptr(), error.ptr());
  };
  try {
    std::rethrow_exception(pointer);
  } catch (const OutOfMemory& e) {
    raise("OutOfMemory", py::make_tuple(e.what(), e.requested_bytes, e.used_bytes, e.budget_bytes,
                                        e.needed_bytes, e.op));
  } catch (const StoreError& e) {
    raise("StoreError", py::make_tuple(e.code, e.what()));
  } catch (const DeviceError& e) {
    raise("DeviceError", py::make_tuple(e.code, e.what()));
  } catch (const InvalidBlock& e) {
    raise("InvalidBlock", py::make_tuple(e.what()));
  }
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  py::register_exception_translator(translate);
  module.attr("min_block_bytes") = min_block_bytes;
  module.def("available_memory_bytes", [] { return available_memory_bytes(); });
  module.def("set_numpy_handler", &set_numpy_handler, "handler"_a);
  const auto def_host_engine = [&](const char* name, auto make) {
    module.def(name, make, "budget_bytes"_a, "spill_dir"_a, "spill_bytes"_a, "reserve_now"_a,
               "checksum"_a, "paranoid"_a, "workers"_a, "chunk_bytes"_a);
  };
  def_host_engine("host_engine", &host_engine<HostDevice>);
  def_host_engine("rehearsal_engine", &host_engine<RehearsalDevice>);

  py::class_<PyTicket>(module, "Ticket", "What a swap_out or swap_in is waiting for.")
      .def(
          "wait", [](PyTicket& self) { self.runtime->moving_engine().wait(self.ticket); },
          release_gil(),
          "Waits until the swap has ended. Raises StoreError or DeviceError if it failed; the\n"
          "array is then where it was.")
      .def(
          "done", [](PyTicket& self) { return self.runtime->readable_engine().done(self.ticket); },
          "Whether the swap has ended.");

  py::class_<Runtime, std::shared_ptr<Runtime>>(module, "Engine")
      .def_property_readonly("min_block_bytes", &Runtime::min_block_bytes)
      .def_property_readonly("sees_touches",
                             [](Runtime& self) { return self.engine().device().sees_touches(); })
      .def("numpy_handler", &make_numpy_handler)
      .def(
          "allocate",
          [](Runtime& self, std::size_t bytes, std::uintptr_t stream) {
            const Stream current(stream);
            return self.moving_engine().allocate(bytes);
          },
          release_gil(), "bytes"_a, "stream"_a = 0)
      .def(
          "free",
          [](Runtime& self, Address a, std::uintptr_t stream) {
            const Stream current(stream);
            if (!self.in_forked_child()) self.engine().free(a);
          },
          release_gil(), "address"_a, "stream"_a = 0)
      .def(
          "begin_op",
          [](Runtime& self, const std::string& op, const Addresses& addresses,
             std::uintptr_t stream) -> std::size_t {
            const Stream current(stream);
            return self.in_forked_child() ? 0 : self.engine().begin_op(op, addresses);
          },
          release_gil(), "op"_a, "addresses"_a, "stream"_a = 0,
          "Returns how many ops the thread had open before.")
      .def(
          "end_op",
          [](Runtime& self, const Addresses& retire, std::uintptr_t stream) {
            const Stream current(stream);
            if (!self.in_forked_child()) self.engine().end_op(retire);
          },
          release_gil(), "retire"_a = Addresses(), "stream"_a = 0)
      .def(
          "abort_ops",
          [](Runtime& self, std::size_t depth, std::uintptr_t stream) {
            const Stream current(stream);
            if (!self.in_forked_child()) self.engine().abort_ops(depth);
          },
          release_gil(), "depth"_a = 0, "stream"_a = 0)
      .def("op_depth",
           [](Runtime& self) { return self.in_forked_child() ? 0 : self.engine().op_depth(); })
      .def("begin_iteration",
           [](Runtime& self) {
             if (!self.in_forked_child()) self.engine().begin_iteration();
           })
      .def(
          "follow_plan",
          [](Runtime& self) {
            if (!self.in_forked_child()) self.engine().follow_plan();
          },
          release_gil())
      .def(
          "may_prefetch",
          [](Runtime& self) {
            return !self.in_forked_child() && self.engine().store().used_bytes() > 0 &&
                   !self.engine().follows_plan();
          },
          "False where there is nothing to fetch, or a plan does it.")
      .def("last_iteration", &last_iteration,
           "When it began and ended, and an iterator of what happened.")
      .def("set_plan", &set_plan, "blocks"_a, "leave"_a, "steps"_a)
      .def(
          "offer",
          [](Runtime& self, const Addresses& addresses, std::uintptr_t stream) {
            const Stream current(stream);
            if (!self.in_forked_child()) self.engine().offer(addresses);
          },
          release_gil(), "addresses"_a, "stream"_a = 0)
      .def(
          "withdraw",
          [](Runtime& self, const Addresses& addresses, std::uintptr_t stream) {
            const Stream current(stream);
            if (!self.in_forked_child()) self.engine().withdraw(addresses);
          },
          release_gil(), "addresses"_a, "stream"_a = 0)
      .def(
          "prefetch",
          [](Runtime& self, const Addresses& addresses, std::uintptr_t stream) {
            const Stream current(stream);
            return self.in_forked_child() ? 0 : self.engine().prefetch(addresses);
          },
          release_gil(), "addresses"_a, "stream"_a = 0)
      .def(
          "swap_out",
          [](std::shared_ptr<Runtime> self, Address a, std::uintptr_t stream) {
            const Stream current(stream);
            return PyTicket{self, self->moving_engine().swap_out(a)};
          },
          release_gil(), "address"_a, "stream"_a = 0)
      .def(
          "swap_in",
          [](std::shared_ptr<Runtime> self, Address a, std::uintptr_t stream) {
            const Stream current(stream);
            return PyTicket{self, self->moving_engine().swap_in(a)};
          },
          release_gil(), "address"_a, "stream"_a = 0)
      .def(
          "pin",
          [](Runtime& self, Address a, std::uintptr_t stream) {
            const Stream current(stream);
            self.moving_engine().pin(a);
          },
          release_gil(), "address"_a, "stream"_a = 0)
      .def(
          "unpin",
          [](Runtime& self, Address a, std::uintptr_t stream) {
            const Stream current(stream);
            if (!self.in_forked_child()) self.engine().unpin(a);
          },
          release_gil(), "address"_a, "stream"_a = 0)
      .def(
          "drain",
          [](Runtime& self) {
            if (!self.in_forked_child()) self.engine().drain();
          },
          release_gil())
      .def(
          "trim", [](Runtime& self) { return self.in_forked_child() ? 0 : self.engine().trim(); },
          release_gil())
      .def("block", &block, "address"_a)
      .def(
          "owned",
          [](Runtime& self, const Addresses& addresses) {
            const auto is_foreign = [&](Address a) { return !self.engine().owns(a); };
            Addresses owned = addresses;
            std::erase_if(owned, is_foreign);
            return owned;
          },
          "addresses"_a, "Those of the addresses that are in the engine's range.")
      .def("stats", &stats)
      .def("trace", &trace)
      .def("faults", &faults)
      .def("notices", [](Runtime& self) { return self.readable_engine().store().notices(); })
      .def(
          "check_invariants", [](Runtime& self) { self.readable_engine().check_invariants(); },
          release_gil())
      .def("raise_failure", [](Runtime& self) {
        if (const std::exception_ptr failure = self.take_failure()) {
          std::rethrow_exception(failure);
        }
      });

  py::class_<RecordItems>(module, "RecordItems")
      .def("__iter__", [](py::object self) { return self; })
      .def("__next__", &RecordItems::next);

  bind_array_pool(module);
  bind_arrays(module);
  bind_cuda_engine(module);
}

}  // namespace swapmem
