#include "fake_driver/happens_before.h"

#include "fake_driver/world.h"

namespace fake {
namespace {

std::string name(const Access& access) {
  return access.work == nullptr ? "the host" : access.work->name;
}

}  // namespace

void HappensBefore::touch(const Range& range, const Access& access, const VectorClock& known,
                          std::vector<Access>& before) {
  std::vector<Access> unordered;
  for (const Piece& piece : world_.pieces(range)) {
    world_.time.not_before(piece.ready_seconds);
    piece.shadow->touch(piece.begin, piece.end, range.write, access, known, unordered, before);
    piece.uses->add(access);
  }
  if (unordered.empty()) return;
  world_.reports.add(FAKE_UNORDERED, name(access) + (range.write ? " writes " : " reads ") +
                                         std::to_string(range.bytes) + " bytes at " +
                                         hex(range.address) + ", and nothing puts it after " +
                                         name(unordered.front()));
}

void HappensBefore::give(const std::shared_ptr<Work>& work, Actor actor, std::uint64_t step) {
  std::vector<Access> before;
  for (const Range& range : work->ranges) {
    touch(range, {actor, step, work}, work->known, before);
  }
  for (const Access& access : before) {
    if (access.work != nullptr && access.work != work) work->uses_of.push_back(access.work);
  }
}

void HappensBefore::host_touches(const Range& range) {
  host_.set(the_host, ++host_steps_);
  std::vector<Access> before;
  touch(range, {the_host, host_steps_, nullptr}, host_, before);
  for (const Access& access : before) {
    if (access.work != nullptr) world_.time.not_before(access.work->finished_seconds);
  }
}

void HappensBefore::taken(const Uses& uses, FakeReportKind kind, const std::string& what) {
  world_.time.not_before(uses.finished_seconds());
  const Access* user = uses.not_known(host_);
  if (user == nullptr) return;
  world_.reports.add(kind, what + ", and nobody has waited for " + name(*user));
}

}  // namespace fake
