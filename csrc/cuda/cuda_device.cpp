#include "cuda/cuda_device.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <optional>
#include <string>

#include "cuda/cuda_link.h"

namespace swapmem::cuda {

namespace {

// Kept for the next commit: enough for what is given back and taken again at a time.
constexpr std::size_t cache_bytes = std::size_t{64} << 20;

}  // namespace

void CudaDevice::Free::operator()(Page* pages) const {
  std::free(pages);
}

CudaDevice::CudaDevice(int ordinal, std::size_t frame_bytes, std::size_t address_bytes)
    : context_(std::make_shared<Context>(ordinal)),
      page_bytes_(granularity_bytes(context_->driver(), ordinal)),
      frame_bytes_(frame_bytes),
      streams_(std::make_shared<Streams>(*context_)),
      handles_(*context_, page_bytes_, frame_bytes_, cache_bytes) {
  if (frame_bytes_ < page_bytes_ || (frame_bytes_ & (frame_bytes_ - 1)) != 0) {
    throw DeviceError("frames of " + std::to_string(frame_bytes_) +
                          " bytes: they have to be a power of two and at least the granularity, " +
                          std::to_string(page_bytes_) + " bytes",
                      CUDA_ERROR_INVALID_VALUE);
  }
  // Zeros from the system, which are pages without memory and cost nothing until they are used.
  pages_.reset(static_cast<Page*>(std::calloc(address_bytes / page_bytes_, sizeof(Page))));
  if (pages_ == nullptr) throw std::bad_alloc();
  const Context::Scope scope(*context_);
  reserve_addresses(address_bytes);
  used_end_ = region_.address;
}

void CudaDevice::reserve_addresses(std::size_t most_bytes) {
  const Driver& driver = context_->driver();
  CUdeviceptr base = 0;
  CUresult result = CUDA_ERROR_INVALID_VALUE;
  std::size_t bytes = frame_of(most_bytes);
  for (; bytes >= 2 * frame_bytes_; bytes = frame_of(bytes / 2)) {
    result = driver.cuMemAddressReserve(&base, bytes, frame_bytes_, 0, 0);
    if (result == CUDA_SUCCESS) break;
  }
  driver.check(result, "cuMemAddressReserve");
  reservation_ = {static_cast<Address>(base), bytes};
  // The alignment is a wish.
  region_.address = frame_of(reservation_.address + frame_bytes_ - 1);
  region_.bytes = frame_of(reservation_.end()) - region_.address;
}

// Errors are not told: nobody is left who could act on them, and a context that was destroyed has
// taken everything with it.
CudaDevice::~CudaDevice() {
  if (context_->forked()) return;
  const Driver& driver = context_->driver();
  std::optional<Context::Scope> scope;
  try {
    scope.emplace(*context_);
  } catch (const DeviceError&) {
  }
  // Work that still uses the memory would bring down the whole context.
  driver.cuCtxSynchronize();
  const auto give_back = [&](const Old& old) {
    if (old.mapped) driver.cuMemUnmap(old.address, handles_.bytes(old.unit));
    if (old.handle != 0) driver.cuMemRelease(old.handle);
  };
  for (const Leaving& leaving : leaving_) {
    for (const Old& old : leaving.parts) give_back(old);
  }
  for (Address at = region_.address; at < used_end_;) {
    const Page& page = *page_at(at);
    if (page.handle != 0) {
      give_back({at, page.unit, page.mapped, page.borrowed ? 0 : page.handle});
    }
    at += page.handle != 0 ? handles_.bytes(page.unit) : page_bytes_;
  }
  driver.cuMemAddressFree(reservation_.address, reservation_.bytes);
}

void CudaDevice::check(Span span) const {
  if (span.address % page_bytes_ == 0 && span.bytes % page_bytes_ == 0 &&
      span.address >= region_.address && span.end() <= region_.end()) {
    return;
  }
  throw DeviceError("a span of " + std::to_string(span.bytes) +
                        " bytes that is not made of pages of " + std::to_string(page_bytes_) +
                        " bytes of this device",
                    CUDA_ERROR_INVALID_VALUE);
}

// --- what is behind addresses

CudaDevice::Page* CudaDevice::page_at(Address address) const {
  return &pages_[(address - region_.address) / page_bytes_];
}

void CudaDevice::set(Place place, const Page& value) {
  std::fill_n(page_at(place.address), handles_.bytes(place.unit) / page_bytes_, value);
}

void CudaDevice::reached(Address end) {
  Address known = used_end_;
  while (end > known && !used_end_.compare_exchange_weak(known, end)) {
  }
}

// The frames and pages that have memory in the span; frames also if only a part lies in it.
std::vector<CudaDevice::Place> CudaDevice::places(Span span) const {
  std::vector<Place> found;
  for (Address at = span.address; at < span.end();) {
    const Page& page = *page_at(at);
    if (page.handle == 0) {
      at += page_bytes_;
      continue;
    }
    const Place place{page.unit == Unit::frame ? frame_of(at) : at, page.unit};
    found.push_back(place);
    at = place.address + handles_.bytes(place.unit);
  }
  return found;
}

bool CudaDevice::is_empty(Span span) const {
  const std::size_t count = span.bytes / page_bytes_;
  return std::all_of(page_at(span.address), page_at(span.address) + count,
                     [](const Page& page) { return page.handle == 0; });
}

std::vector<CudaDevice::Place> CudaDevice::gaps(Span span) const {
  std::vector<Place> found;
  for (Address at = span.address; at < span.end();) {
    const bool whole = at % frame_bytes_ == 0 && span.end() - at >= frame_bytes_;
    const Unit unit = whole && is_empty({at, frame_bytes_}) ? Unit::frame : Unit::page;
    if (page_at(at)->handle == 0) found.push_back({at, unit});
    at += handles_.bytes(unit);
  }
  return found;
}

std::size_t CudaDevice::bytes_of(const std::vector<Place>& places) const {
  std::size_t sum = 0;
  for (const Place& place : places) sum += handles_.bytes(place.unit);
  return sum;
}

// --- handles behind addresses

// Returns what has memory now and had none; all of it, or none if it throws.
std::vector<CudaDevice::Place> CudaDevice::fill_gaps(Span span) {
  std::vector<Place> wanted = gaps(span);
  if (wanted.empty()) return wanted;
  const std::size_t bytes = bytes_of(wanted);
  handles_.use(bytes);
  std::size_t filled = 0;
  try {
    for (; filled < wanted.size(); ++filled) {
      const Unit unit = wanted[filled].unit;
      set(wanted[filled], {new_handle(unit), unit, false, false});
    }
  } catch (...) {
    wanted.resize(filled);
    handles_.unuse(bytes - bytes_of(wanted));
    empty(wanted);
    throw;
  }
  reached(span.end());
  return wanted;
}

void CudaDevice::empty(const std::vector<Place>& filled) noexcept {
  for (const Place& place : filled) {
    const Handle handle = page_at(place.address)->handle;
    set(place, {});
    handles_.give_back(place.unit, handle);
    handles_.unuse(handles_.bytes(place.unit));
  }
}

Handle CudaDevice::new_handle(Unit unit) {
  bool insist = false;
  bool again = false;
  for (;;) {
    try {
      if (const Handle handle = handles_.take(unit, insist)) return handle;
      insist = !finish_one_with_memory();
    } catch (const DeviceError& error) {
      if (again || error.code != CUDA_ERROR_OUT_OF_MEMORY) throw;
      again = insist = true;
      trim();
    }
  }
}

void CudaDevice::map(const std::vector<Mapping>& mappings) {
  const Driver& driver = context_->driver();
  if (mappings.empty()) return;
  // Ready before anything is mapped: an unmap that is refused has to be remembered.
  LeavingList undone(1);
  undone.front().parts.reserve(mappings.size());
  std::size_t mapped = 0;
  try {
    for (; mapped < mappings.size(); ++mapped) {
      const Mapping& mapping = mappings[mapped];
      driver.check(
          driver.cuMemMap(mapping.address, handles_.bytes(mapping.unit), 0, mapping.handle, 0),
          "cuMemMap");
    }
    set_access(mappings);
  } catch (...) {
    for (std::size_t i = 0; i < mapped; ++i) {
      undone.front().parts.push_back({mappings[i].address, mappings[i].unit, true, 0});
    }
    leave(undone);
    throw;
  }
}

// One call for every run of neighbours: it costs far more than a map does.
void CudaDevice::set_access(const std::vector<Mapping>& mappings) {
  const Driver& driver = context_->driver();
  const CUmemAccessDesc access{{CU_MEM_LOCATION_TYPE_DEVICE, context_->ordinal()},
                               CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  Span run;
  const auto end_run = [&] {
    if (run.bytes == 0) return;
    driver.check(driver.cuMemSetAccess(run.address, run.bytes, &access, 1), "cuMemSetAccess");
  };
  for (const Mapping& mapping : mappings) {
    if (mapping.address != run.end()) {
      end_run();
      run = {mapping.address, 0};
    }
    run.bytes += handles_.bytes(mapping.unit);
  }
  end_run();
}

// --- the device's contract

void CudaDevice::commit(Span span) {
  check(span);
  const Context::Scope scope(*context_);
  finish_passed();
  finish_at(span);
  const std::vector<Place> filled = fill_gaps(span);
  try {
    const std::vector<Place> all = places(span);
    std::vector<Mapping> mappings;
    mappings.reserve(all.size());
    for (const Place& place : all) {
      const Page& page = *page_at(place.address);
      if (!page.mapped) mappings.push_back({place.address, place.unit, page.handle});
    }
    map(mappings);
    for (const Mapping& mapping : mappings) {
      set({mapping.address, mapping.unit}, {mapping.handle, mapping.unit, true, false});
    }
  } catch (...) {
    empty(filled);
    throw;
  }
}

void CudaDevice::commit_staging(Span span) {
  check(span);
  const Context::Scope scope(*context_);
  finish_passed();
  fill_gaps(span);
}

void CudaDevice::decommit(Span span, const Fences& last_use) {
  check(span);
  const Context::Scope scope(*context_);
  finish_passed();
  const std::vector<Place> all = places(span);
  LeavingList old(1);
  old.front().last_use = last_use;
  old.front().parts.reserve(all.size());
  for (const Place& place : all) {
    const Page& page = *page_at(place.address);
    old.front().parts.push_back(
        {place.address, place.unit, page.mapped, page.borrowed ? 0 : page.handle});
    set(place, {});
  }
  leave(old);
}

void CudaDevice::move(Address from, Address to, std::size_t bytes, const Fences& last_use) {
  check({from, bytes});
  check({to, bytes});
  const Context::Scope scope(*context_);
  finish_passed();
  if (!is_empty({to, bytes})) decommit({to, bytes}, {});
  const std::vector<Place> all = places({from, bytes});
  LeavingList old(1);
  old.front().last_use = last_use;
  old.front().parts.reserve(all.size());
  const bool aligned = (to - from) % frame_bytes_ == 0;
  for (const Place& place : all) {
    const Page page = *page_at(place.address);
    const Address end = place.address + handles_.bytes(place.unit);
    const bool whole =
        place.unit == Unit::page || (aligned && place.address >= from && end <= from + bytes);
    set(place, {});
    if (whole)
      set({to + (place.address - from), place.unit}, {page.handle, page.unit, false, false});
    if (page.mapped || !whole) {
      old.front().parts.push_back(
          {place.address, place.unit, page.mapped, whole ? 0 : page.handle});
    }
  }
  reached(to + bytes);
  put_off(old);
}

Address CudaDevice::begin_fill(Span staging, Span block) {
  commit_staging(staging);
  check(block);
  const Context::Scope scope(*context_);
  // Of a fill that failed its mapping may be left.
  if (!is_empty(block)) decommit(block, {});
  finish_at(block);
  std::vector<Mapping> mappings;
  for (const Place& place : places(staging)) {
    const Address at = block.address + (place.address - staging.address);
    if (at % handles_.bytes(place.unit) != 0) {
      throw DeviceError("a block is filled from one that starts elsewhere in a frame",
                        CUDA_ERROR_INVALID_VALUE);
    }
    mappings.push_back({at, place.unit, page_at(place.address)->handle});
  }
  map(mappings);
  for (const Mapping& mapping : mappings) {
    set({mapping.address, mapping.unit}, {mapping.handle, mapping.unit, true, true});
  }
  reached(block.end());
  return block.address;
}

void CudaDevice::finish_fill(Span staging, Span block) {
  const Context::Scope scope(*context_);
  const std::vector<Place> all = places(staging);
  LeavingList old(1);
  old.front().parts.reserve(all.size());
  for (const Place& place : all) {
    const Page page = *page_at(place.address);
    if (page.mapped) old.front().parts.push_back({place.address, place.unit, true, 0});
    set(place, {});
    set({block.address + (place.address - staging.address), place.unit},
        {page.handle, page.unit, true, false});
  }
  leave(old);
}

Stamp CudaDevice::stamp() noexcept {
  try {
    return streams_->stamp();
  } catch (const DeviceError&) {
    return nullptr;  // whoever needs the stream is told
  }
}

double CudaDevice::seconds_between(const Stamp& earlier, const Stamp& later) {
  return streams_->seconds_between(static_cast<CUevent>(earlier.get()),
                                   static_cast<CUevent>(later.get()));
}

std::unique_ptr<Link> CudaDevice::link() const {
  return std::make_unique<CudaLink>(context_, streams_);
}

void CudaDevice::tidy() noexcept {
  try {
    const Context::Scope scope(*context_);
    finish_all_passed();
  } catch (...) {
    // The driver refuses, or there is no memory: whoever needs it done is told.
  }
}

void CudaDevice::trim() {
  const Context::Scope scope(*context_);
  while (finish_one_with_memory()) {
  }
  handles_.trim();
}

CudaDevice::Usage CudaDevice::usage() const {
  return {handles_.in_use_bytes(), handles_.cached_bytes(), handles_.existing_bytes()};
}

}  // namespace swapmem::cuda
