// The pool: each worker once, fixed ranges that cover everything, exceptions come back, reuse without end.
#include "base/threads.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "base/error.h"

namespace whit {
namespace {

TEST(ThreadPool, RunsEachWorkerOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.threads(), threads);
    std::vector<std::atomic<int>> calls(static_cast<size_t>(threads));
    for (int round = 0; round < 200; ++round) pool.run([&](int worker) { ++calls[static_cast<size_t>(worker)]; });
    for (const auto& count : calls) EXPECT_EQ(count, 200);
  }
}

// Where the system gives no more threads: a clear error, and those that were started end.
TEST(ThreadPool, AThreadThatCannotBeStartedIsAnError) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need all of the address space";
#endif
  const pid_t child = fork();
  if (child == 0) {
    std::ifstream statm("/proc/self/statm");
    rlim_t pages = 0;
    statm >> pages;
    const rlim_t room = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (rlim_t{20} << 20);  // two stacks of 8 MB
    const rlimit limit{room, room};
    setrlimit(RLIMIT_AS, &limit);
    try {
      ThreadPool pool(64);
    } catch (const Error& error) {
      _exit(error.kind() == ErrorKind::budget ? 0 : 2);
    } catch (...) {
      _exit(3);
    }
    _exit(1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(ThreadPool, RangesCoverWithoutOverlapAndDependOnNothingElse) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const size_t count : {0, 1, 7, 64, 1000}) {
      for (const size_t grain : {1, 8, 64}) {
        std::vector<int> first(count, -1), second(count, -1);
        for (auto* owner : {&first, &second}) {
          pool.parallel_for(count, grain, [&](size_t begin, size_t end, int worker) {
            EXPECT_EQ(begin % grain, 0u);
            for (size_t i = begin; i < end; ++i) {
              EXPECT_EQ((*owner)[i], -1);
              (*owner)[i] = worker;
            }
          });
        }
        EXPECT_EQ(first, second);
        EXPECT_EQ(std::count(first.begin(), first.end(), -1), 0);
      }
    }
  }
}

TEST(ThreadPool, WhatWasWrittenBeforeIsSeenAndWhatWorkersWriteToo) {
  ThreadPool pool(4);
  std::vector<uint64_t> values(4096);
  uint64_t expected = 0;
  for (uint64_t round = 1; round <= 300; ++round) {
    pool.parallel_for(values.size(), 1, [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; ++i) values[i] += round;
    });
    expected += round * values.size();
    ASSERT_EQ(std::accumulate(values.begin(), values.end(), uint64_t{0}), expected);
  }
}

TEST(ThreadPool, ThrowsWhatAWorkerThrewAndGoesOn) {
  ThreadPool pool(3);
  for (int thrower = 0; thrower < 3; ++thrower) {
    EXPECT_THROW(pool.run([&](int worker) {
      if (worker == thrower) throw std::runtime_error("one");
    }),
                 std::runtime_error);
    std::atomic<int> calls{0};
    pool.run([&](int) { ++calls; });
    EXPECT_EQ(calls, 3);
  }
}

TEST(ThreadPool, RefusesSillyCounts) {
  EXPECT_THROW(ThreadPool(-1), Error);
  EXPECT_THROW(ThreadPool(1025), Error);
  EXPECT_EQ(ThreadPool(0).threads(), available_cores());
}

}  // namespace
}  // namespace whit
