// Streams as queues, events, and the scheduler: who executes what, and when.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "fake_driver/fake_driver.h"
#include "fake_driver/work.h"

namespace fake {

class World;
using Lock = std::unique_lock<std::mutex>;

struct Stream {
  unsigned long long id = 0;  // never used twice, as handles may be
  Actor actor = the_host;
  swapmem::cuda::CUcontext context = nullptr;
  int device = 0;
  bool blocking = true;  // keeps order with the legacy stream of its context
  bool legacy = false;
  bool held = false;
  bool destroyed = false;
  std::deque<std::shared_ptr<Work>> queue;  // the first may be running
  std::shared_ptr<Work> last;               // that was given
  VectorClock known;
  std::uint64_t steps = 0;
  double seconds = 0;
};

struct Event {
  swapmem::cuda::CUcontext context = nullptr;
  unsigned flags = 0;
  std::shared_ptr<Work> recorded;
};

class Streams {
 public:
  using CUcontext = swapmem::cuda::CUcontext;
  using CUstream = swapmem::cuda::CUstream;
  using CUevent = swapmem::cuda::CUevent;

  Streams(World& world, std::condition_variable& changed) : world_(world), changed_(changed) {}

  CUstream create(CUcontext context, bool blocking);
  bool destroy(CUstream handle);
  // Null if there is none. The default streams are those of the current context.
  std::shared_ptr<Stream> find(CUstream handle);

  CUevent create_event(CUcontext context, unsigned flags);
  bool destroy_event(CUevent handle);
  Event* find_event(CUevent handle);

  void give(Stream& stream, const std::shared_ptr<Work>& work);
  // Executes until it is done; the host then knows what it knew.
  void wait(const std::shared_ptr<Work>& work, Lock& lock);
  // Executes something, maybe; whether it is done.
  bool query(const std::shared_ptr<Work>& work, Lock& lock);
  // The last work of every stream of the context.
  std::vector<std::shared_ptr<Work>> last_of(CUcontext context) const;
  // Executes one piece of work. False if there is none that can start.
  bool step(Lock& lock);

  // The context is gone; so is what it held. How many streams and events that was.
  std::size_t forget(CUcontext context);
  void count(FakeCounts* counts) const;

  void seed(std::uint64_t seed);
  void hold(CUstream handle, bool held);
  bool reuse_handles = false;

 private:
  std::shared_ptr<Stream> add(CUcontext context, bool blocking);
  std::shared_ptr<Stream> default_stream(bool per_thread);
  void drop_if_over(const std::shared_ptr<Stream>& stream);
  void order_with_legacy(Stream& stream, Work& work);
  void learn(const Work& work);
  double ready_seconds(const Stream& stream, const Work& work) const;
  std::shared_ptr<Stream> choose();
  void run_user_code(Work& work, Lock& lock);
  bool memory_is_there(const Stream& stream, const Work& work);

  World& world_;
  std::condition_variable& changed_;
  std::vector<std::shared_ptr<Stream>> all_;  // also destroyed ones, until their work is done
  std::map<CUcontext, VectorClock> ended_;    // what streams knew that are gone
  std::map<CUstream, std::shared_ptr<Stream>> streams_;
  std::map<CUcontext, std::shared_ptr<Stream>> legacy_;
  std::map<std::pair<CUcontext, std::thread::id>, std::shared_ptr<Stream>> per_thread_;
  std::map<CUevent, Event> events_;
  std::vector<CUstream> unused_;  // handles of destroyed streams
  std::uintptr_t next_handle_ = 0x57000000;
  unsigned long long next_id_ = 1;
  std::uint64_t given_ = 0;
  bool in_time_order_ = true;
  std::mt19937_64 random_;
};

}  // namespace fake
