// The CUDA device beside others, in other people's contexts, and in a forked child.
#include "core/errors.h"
#include "support/process.h"
#include "support/small_device.h"

using namespace swapmem;
using namespace swapmem::cuda;
using namespace swapmem::test;

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
