// The Python module swapmem._core. Thin: every rule is the engine's.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/numpy_handler.h"
#include "bindings/runtime.h"
#include "core/size_class.h"
#include "host/checksum_store.h"
#include "host/file_store.h"
#include "host/host_device.h"

namespace py = pybind11;
using namespace py::literals;

namespace swapmem {

namespace {

using release_gil = py::call_guard<py::gil_scoped_release>;
using Addresses = std::vector<Address>;

// A forked child has no workers. What only announces does nothing there, so that hooks may go on;
// what has to move something is refused by Runtime::moving_engine.

// A ticket that keeps the engine it belongs to alive.
struct PyTicket {
  std::shared_ptr<Runtime> runtime;
  Ticket ticket;
};

std::shared_ptr<Runtime> host_engine(std::size_t budget_bytes, const std::string& spill_dir,
                                     std::size_t spill_bytes, bool reserve_now, bool checksum,
                                     bool paranoid, std::size_t workers, std::size_t chunk_bytes) {
  std::unique_ptr<Store> store = std::make_unique<FileStore>(spill_dir, spill_bytes, reserve_now);
  if (checksum) store = std::make_unique<ChecksumStore>(std::move(store));
  std::unique_ptr<Policy> policy;
  if (paranoid) {
    policy = std::make_unique<Paranoid>();
  } else {
    policy = std::make_unique<LeastRecentlyUsed>();
  }
  EngineOptions options;
  options.budget_bytes = budget_bytes;
  options.workers = workers;
  options.chunk_bytes = chunk_bytes;
  return std::make_shared<Runtime>(std::make_unique<Engine>(
      std::make_unique<HostDevice>(), std::move(store), std::move(policy), options));
}

py::dict stats(Runtime& self) {
  const Stats s = self.engine().stats();
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
      "swap_in_busy_seconds"_a = s.swap_in_busy_seconds, "clean_evictions"_a = s.clean_evictions,
      "transfer_errors"_a = s.transfer_errors, "stall_seconds"_a = s.stall_seconds,
      "faults"_a = s.faults, "fault_seconds"_a = s.fault_seconds, "allocations"_a = s.allocations,
      "frees"_a = s.frees, "warm_hits"_a = s.warm_hits, "iterations"_a = s.iterations,
      "largest_op_bytes"_a = s.largest_op_bytes, "largest_op"_a = s.largest_op, "by_op"_a = by_op);
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
  }
  return "?";
}

py::list trace(Runtime& self) {
  const std::vector<Event> events = self.engine().trace();
  const std::vector<std::string> names = self.engine().op_names();  // after: it only grows
  py::list result;
  for (const Event& e : events) {
    result.append(py::make_tuple(e.time_seconds, kind_name(e.kind), e.block, e.bytes, names[e.op],
                                 e.seconds, e.resident_bytes, e.charged_bytes));
  }
  return result;
}

py::list faults(Runtime& self) {
  const std::vector<FaultRecord> records = self.engine().faults();
  const std::vector<std::string> names = self.engine().op_names();
  py::list result;
  for (const FaultRecord& f : records) {
    result.append(py::make_tuple(f.time_seconds, names[f.op], f.block, f.bytes, f.seconds));
  }
  return result;
}

py::object block(Runtime& self, Address address) {
  const std::optional<BlockInfo> info = self.engine().block(address);
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
  module.def("set_numpy_handler", &set_numpy_handler, "handler"_a);
  module.def("host_engine", &host_engine, "budget_bytes"_a, "spill_dir"_a, "spill_bytes"_a,
             "reserve_now"_a, "checksum"_a, "paranoid"_a, "workers"_a, "chunk_bytes"_a);

  py::class_<PyTicket>(module, "Ticket", "What a swap_out or swap_in is waiting for.")
      .def(
          "wait", [](PyTicket& self) { self.runtime->moving_engine().wait(self.ticket); },
          release_gil(),
          "Waits until the swap has ended. Raises StoreError or DeviceError if it failed; the\n"
          "array is then where it was.")
      .def(
          "done", [](PyTicket& self) { return self.runtime->engine().done(self.ticket); },
          "Whether the swap has ended.");

  py::class_<Runtime, std::shared_ptr<Runtime>>(module, "Engine")
      .def_property_readonly("min_block_bytes", [](Runtime&) { return min_block_bytes; })
      .def("numpy_handler", &make_numpy_handler)
      .def(
          "allocate",
          [](Runtime& self, std::size_t bytes) { return self.moving_engine().allocate(bytes); },
          release_gil(), "bytes"_a)
      .def(
          "free", [](Runtime& self, Address a) { self.engine().free(a); }, release_gil(),
          "address"_a)
      .def(
          "begin_op",
          [](Runtime& self, const std::string& op, const Addresses& addresses) {
            if (!fault_router::in_forked_child()) self.engine().begin_op(op, addresses);
          },
          release_gil(), "op"_a, "addresses"_a)
      .def(
          "end_op",
          [](Runtime& self, const Addresses& retire) {
            if (!fault_router::in_forked_child()) self.engine().end_op(retire);
          },
          release_gil(), "retire"_a = Addresses())
      .def(
          "abort_ops",
          [](Runtime& self, std::size_t depth) {
            if (!fault_router::in_forked_child()) self.engine().abort_ops(depth);
          },
          release_gil(), "depth"_a = 0)
      .def("op_depth", [](Runtime& self) { return self.engine().op_depth(); })
      .def("begin_iteration", [](Runtime& self) { self.engine().begin_iteration(); })
      .def(
          "prefetch",
          [](Runtime& self, const Addresses& addresses) {
            return fault_router::in_forked_child() ? 0 : self.engine().prefetch(addresses);
          },
          release_gil(), "addresses"_a)
      .def(
          "swap_out",
          [](std::shared_ptr<Runtime> self, Address a) {
            return PyTicket{self, self->moving_engine().swap_out(a)};
          },
          release_gil(), "address"_a)
      .def(
          "swap_in",
          [](std::shared_ptr<Runtime> self, Address a) {
            return PyTicket{self, self->moving_engine().swap_in(a)};
          },
          release_gil(), "address"_a)
      .def(
          "pin", [](Runtime& self, Address a) { self.moving_engine().pin(a); }, release_gil())
      .def(
          "unpin", [](Runtime& self, Address a) { self.engine().unpin(a); }, release_gil())
      .def(
          "drain",
          [](Runtime& self) {
            if (!fault_router::in_forked_child()) self.engine().drain();
          },
          release_gil())
      .def(
          "trim",
          [](Runtime& self) { return fault_router::in_forked_child() ? 0 : self.engine().trim(); },
          release_gil())
      .def("block", &block, "address"_a)
      .def("stats", &stats)
      .def("trace", &trace)
      .def("faults", &faults)
      .def("notices", [](Runtime& self) { return self.engine().store().notices(); })
      .def(
          "check_invariants", [](Runtime& self) { self.engine().check_invariants(); },
          release_gil())
      .def("raise_failure", [](Runtime& self) {
        if (const std::exception_ptr failure = self.take_failure()) {
          std::rethrow_exception(failure);
        }
      });
}

}  // namespace swapmem
