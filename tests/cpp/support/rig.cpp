#include "support/rig.h"

#include "host/fault_router.h"
#include "support/forwarding.h"

namespace swapmem::test {

namespace {

// Frames so small that small arrays can have parts.
class SmallFrames : public ForwardingDevice {
 public:
  using ForwardingDevice::ForwardingDevice;
  std::size_t frame_bytes() const override { return block_bytes; }
};

}  // namespace

Rig::Rig(const Pair& pair, const RigOptions& options, const Wrap& wrap)
    : budget_bytes_(options.budget_bytes) {
  std::unique_ptr<Device> device = pair.device.make();
  std::unique_ptr<Store> store = pair.store.make(options.store_bytes);
  if (options.part_bytes != no_parts) device = std::make_unique<SmallFrames>(std::move(device));
  if (wrap) wrap(device, store);
  auto gated_device = std::make_unique<GatedDevice>(std::move(device));
  auto gated_store = std::make_unique<GatedStore>(std::move(store));
  device_ = gated_device.get();
  store_ = gated_store.get();
  EngineOptions engine_options;
  engine_options.budget_bytes = options.budget_bytes;
  engine_options.workers = options.workers;
  engine_options.chunk_bytes = options.chunk_bytes;
  engine_options.part_bytes = options.part_bytes;
  engine_ = std::make_unique<Engine>(std::move(gated_device), std::move(gated_store),
                                     options.policy(), engine_options);
  if (device_->sees_writes()) fault_router::add(*engine_);
}

Rig::~Rig() {
  open_gates();
  if (device_->sees_writes()) fault_router::remove(*engine_);
}

void Rig::open_gates() {
  for (Gate* gate : {&device_->commits, &device_->decommits, &device_->moves, &device_->protects,
                     &store_->reserves, &store_->writes, &store_->reads}) {
    gate->open();
  }
}

Address Rig::make(std::size_t bytes) {
  engine_->begin_op("make", {});
  const Address address = engine_->allocate(bytes);
  adopt(address, bytes);
  engine_->end_op();
  check();
  return address;
}

void Rig::adopt(Address address, std::size_t bytes) {
  contents_[address] = {bytes, next_cookie()};
  fill(address, bytes, last_cookie_);
}

void Rig::write_in_open_op(Address address) {
  rewritten_as(address, next_cookie());
  fill(address, contents_.at(address).bytes, last_cookie_);
}

void Rig::rewritten_as(Address address, std::uint64_t cookie) {
  contents_.at(address).cookie = cookie;
}

void Rig::rewrite(Address address) {
  engine_->begin_op("rewrite", {&address, 1});
  write_in_open_op(address);
  engine_->end_op();
  check();
}

void Rig::forget(Address address) {
  contents_.erase(address);
}

void Rig::free(Address address) {
  forget(address);
  engine_->free(address);
  check();
}

State Rig::state(Address address) {
  return engine_->block(address).value().state;
}

bool Rig::intact(Address address) {
  const Content content = contents_.at(address);
  return holds(address, content.bytes, content.cookie);
}

void Rig::verify(Address address) {
  engine_->begin_op("verify", {&address, 1});
  CHECK(accessible(state(address)));
  CHECK(intact(address));
  engine_->end_op();
  check();
}

void Rig::verify_all() {
  for (const auto& [address, content] : contents_) verify(address);
}

std::vector<Address> Rig::live() const {
  std::vector<Address> addresses;
  for (const auto& [address, content] : contents_) addresses.push_back(address);
  return addresses;
}

void Rig::check() {
  engine_->check_invariants();
  const Stats stats = engine_->stats();
  CHECK(stats.peak_charged_bytes <= budget_bytes_);
  CHECK(stats.held_bytes <= budget_bytes_);
}

void Rig::finish() {
  for (const Address address : live()) free(address);
  engine_->drain();
  engine_->trim();
  check();
  const Stats stats = engine_->stats();
  CHECK_EQUAL(stats.charged_bytes, 0u);
  CHECK_EQUAL(stats.live_bytes, 0u);
  CHECK_EQUAL(stats.resident_bytes, 0u);
  CHECK_EQUAL(stats.cached_bytes, 0u);
  CHECK_EQUAL(stats.held_bytes, 0u);
  CHECK_EQUAL(stats.store_bytes, 0u);
}

Address Rig::reach(State wanted) {
  const Address block = make();
  switch (wanted) {
    case State::resident:
      break;
    case State::cleaning:
      store_->writes.close();
      engine_->swap_out(block);
      store_->writes.await_waiting(1);
      break;
    case State::clean:
      // The copy that was made ahead of need when memory ran short.
      while (live().size() < budget_bytes_ / block_bytes) make();
      engine_->drain();
      break;
    case State::evicting:
      device_->moves.close();
      engine_->swap_out(block);
      device_->moves.await_waiting(1);
      break;
    case State::out:
      engine_->wait(engine_->swap_out(block));
      break;
    case State::filling:
      engine_->wait(engine_->swap_out(block));
      store_->reads.close();
      engine_->swap_in(block);
      store_->reads.await_waiting(1);
      break;
    default:
      CHECK(false);
  }
  CHECK_EQUAL(name(state(block)), std::string(name(wanted)));
  check();
  return block;
}

}  // namespace swapmem::test
