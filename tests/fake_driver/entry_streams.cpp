// Streams, events, host functions, and kernels (which are host functions here).
#include <memory>
#include <string>

#include "fake_driver/entry.h"

namespace fake {
namespace {

CUresult create_stream(const char* name, CUstream* stream, unsigned flags) {
  return enter(name, Needs::context, [&](World& world, Lock&) {
    if ((flags & ~CU_STREAM_NON_BLOCKING) != 0) return CUDA_ERROR_INVALID_VALUE;
    const bool blocking = (flags & CU_STREAM_NON_BLOCKING) == 0;
    *stream = world.streams.create(world.contexts.current(), blocking);
    return CUDA_SUCCESS;
  });
}

// About a stream that exists, whichever context is current.
template <typename Body>
CUresult of_stream(const char* name, CUstream handle, Body body) {
  return enter(name, Needs::context, [&](World& world, Lock& lock) {
    const std::shared_ptr<Stream> stream = world.streams.find(handle);
    if (stream == nullptr) {
      return world.reports.misuse(std::string(name) + " of a stream that does not exist",
                                  CUDA_ERROR_INVALID_HANDLE);
    }
    return body(world, lock, *stream);
  });
}

template <typename Body>
CUresult of_event(const char* name, CUevent handle, Body body) {
  return enter(name, Needs::context, [&](World& world, Lock& lock) {
    Event* event = world.streams.find_event(handle);
    if (event == nullptr) {
      return world.reports.misuse(std::string(name) + " of an event that does not exist",
                                  CUDA_ERROR_INVALID_HANDLE);
    }
    return body(world, lock, *event);
  });
}

CUresult broken(World& world, CUcontext handle) {
  const Context* context = world.contexts.find(handle);
  return context == nullptr ? CUDA_ERROR_CONTEXT_IS_DESTROYED : context->broken;
}

CUresult give(const char* name, CUstream handle, const std::shared_ptr<Work>& work) {
  return enter(name, Needs::context, [&](World& world, Lock&) {
    std::shared_ptr<Stream> stream;
    const CUresult unusable = usable(world, handle, name, &stream);
    if (unusable == CUDA_SUCCESS) world.streams.give(*stream, work);
    return unusable;
  });
}

}  // namespace

CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
  return create_stream("cuStreamCreate", stream, flags);
}

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int) {
  return create_stream("cuStreamCreateWithPriority", stream, flags);
}

CUresult cuStreamDestroy_v2(CUstream stream) {
  return enter("cuStreamDestroy", Needs::context, [&](World& world, Lock&) {
    if (world.streams.destroy(stream)) return CUDA_SUCCESS;
    return world.reports.misuse("cuStreamDestroy of no stream", CUDA_ERROR_INVALID_HANDLE);
  });
}

CUresult cuStreamQuery(CUstream handle) {
  return of_stream("cuStreamQuery", handle, [](World& world, Lock& lock, Stream& stream) {
    const std::shared_ptr<Work> last = stream.last;
    const CUcontext context = stream.context;
    if (last != nullptr && !world.streams.query(last, lock)) return CUDA_ERROR_NOT_READY;
    return broken(world, context);
  });
}

CUresult cuStreamSynchronize(CUstream handle) {
  return of_stream("cuStreamSynchronize", handle, [](World& world, Lock& lock, Stream& stream) {
    const std::shared_ptr<Work> last = stream.last;
    const CUcontext context = stream.context;
    if (last != nullptr) world.streams.wait(last, lock);
    return broken(world, context);
  });
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned) {
  return of_event("cuStreamWaitEvent", event_handle, [&](World& world, Lock&, Event& event) {
    std::shared_ptr<Stream> stream;
    const CUresult unusable = usable(world, handle, "cuStreamWaitEvent", &stream);
    if (unusable != CUDA_SUCCESS || event.recorded == nullptr) return unusable;
    auto work = std::make_shared<Work>();
    work->name = "cuStreamWaitEvent";
    work->after.push_back(event.recorded);
    world.streams.give(*stream, work);
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext* context) {
  return of_stream("cuStreamGetCtx", handle, [&](World&, Lock&, Stream& stream) {
    *context = stream.context;
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamGetId(CUstream handle, unsigned long long* id) {
  return of_stream("cuStreamGetId", handle, [&](World&, Lock&, Stream& stream) {
    *id = stream.id;
    return CUDA_SUCCESS;
  });
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void* user_data) {
  auto work = std::make_shared<Work>();
  work->name = "host function";
  work->body = [=] { function(user_data); };
  work->calls_user_code = true;
  work->tells_host = true;
  return give("cuLaunchHostFunc", stream, work);
}

FAKE_API CUresult fake_launch(CUstream stream, const char* name, void (*function)(void*),
                              void* argument, const FakeRange* ranges, int count, double seconds) {
  auto work = std::make_shared<Work>();
  work->name = std::string("kernel ") + name;
  for (int i = 0; i < count; ++i) {
    work->ranges.push_back({ranges[i].address, ranges[i].bytes, ranges[i].write != 0});
  }
  if (function != nullptr) work->body = [=] { function(argument); };
  work->calls_user_code = true;
  work->cost_seconds = seconds;
  return give("fake_launch", stream, work);
}

CUresult cuEventCreate(CUevent* event, unsigned flags) {
  return enter("cuEventCreate", Needs::context, [&](World& world, Lock&) {
    *event = world.streams.create_event(world.contexts.current(), flags);
    return CUDA_SUCCESS;
  });
}

CUresult cuEventDestroy_v2(CUevent event) {
  return enter("cuEventDestroy", Needs::context, [&](World& world, Lock&) {
    if (world.streams.destroy_event(event)) return CUDA_SUCCESS;
    return world.reports.misuse("cuEventDestroy of no event", CUDA_ERROR_INVALID_HANDLE);
  });
}

CUresult cuEventRecord(CUevent event_handle, CUstream handle) {
  return of_event("cuEventRecord", event_handle, [&](World& world, Lock&, Event& event) {
    std::shared_ptr<Stream> stream;
    const CUresult unusable = usable(world, handle, "cuEventRecord", &stream);
    if (unusable != CUDA_SUCCESS) return unusable;
    if (stream->context != event.context) {
      return world.reports.misuse("cuEventRecord of an event of another context",
                                  CUDA_ERROR_INVALID_HANDLE);
    }
    auto work = std::make_shared<Work>();
    work->name = "cuEventRecord";
    world.streams.give(*stream, work);
    event.recorded = work;
    return CUDA_SUCCESS;
  });
}

CUresult cuEventQuery(CUevent handle) {
  return of_event("cuEventQuery", handle, [](World& world, Lock& lock, Event& event) {
    const std::shared_ptr<Work> recorded = event.recorded;
    const CUcontext context = event.context;
    if (recorded != nullptr && !world.streams.query(recorded, lock)) return CUDA_ERROR_NOT_READY;
    return broken(world, context);
  });
}

CUresult cuEventSynchronize(CUevent handle) {
  return of_event("cuEventSynchronize", handle, [](World& world, Lock& lock, Event& event) {
    const std::shared_ptr<Work> recorded = event.recorded;
    const CUcontext context = event.context;
    if (recorded != nullptr) world.streams.wait(recorded, lock);
    return broken(world, context);
  });
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  return of_event("cuEventElapsedTime", start, [&](World& world, Lock&, Event& from) {
    const Event* to = world.streams.find_event(end);
    const bool timed = to != nullptr && from.recorded != nullptr && to->recorded != nullptr &&
                       ((from.flags | to->flags) & CU_EVENT_DISABLE_TIMING) == 0;
    if (!timed) {
      return world.reports.misuse("cuEventElapsedTime of events without times",
                                  CUDA_ERROR_INVALID_HANDLE);
    }
    if (!from.recorded->done || !to->recorded->done) return CUDA_ERROR_NOT_READY;
    const double seconds = to->recorded->finished_seconds - from.recorded->finished_seconds;
    *milliseconds = static_cast<float>(seconds * 1e3);
    return CUDA_SUCCESS;
  });
}

}  // namespace fake
