#include "runtime/actor/future.h"

#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#include <gtest/gtest.h>

namespace packcast {
namespace {

TEST(FutureTest, ResolvesOnce) {
  Promise<int> promise;
  const Future<int> future = promise.future();
  EXPECT_FALSE(future.ready());
  EXPECT_EQ(future.Get(Milliseconds(1)).status().code(), StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(promise.Set(1));
  EXPECT_FALSE(promise.Set(2));
  EXPECT_EQ(*future.Get(Duration(0)), 1);
}

TEST(FutureTest, DroppedPromiseIsAnError) {
  Future<int> future;
  EXPECT_EQ(future.Get(Duration(0)).status().code(), StatusCode::kFailedPrecondition);
  {
    Promise<int> promise;
    future = promise.future();
  }
  EXPECT_EQ(future.Get(Seconds(1)).status().code(), StatusCode::kInternal);
}

TEST(FutureTest, OneOfManySettersWinsAndEveryCallbackRunsOnce) {
  for (int round = 0; round < 200; ++round) {
    Promise<int> promise;
    std::atomic<int> wins{0};
    std::atomic<int> calls{0};
    std::thread other([&] {
      promise.future().Then([&](const StatusOr<int>&) { ++calls; });
      wins += promise.Set(1);
    });
    promise.future().Then([&](const StatusOr<int>&) { ++calls; });
    wins += promise.Set(2);
    other.join();
    EXPECT_EQ(wins, 1);
    EXPECT_EQ(calls, 2);
  }
}

TEST(FutureTest, MapAndWhenAllKeepOrderAndErrors) {
  Promise<int> a;
  Promise<int> b;
  const auto all = WhenAll<int>({a.future(), b.future()});
  const Future<std::string> text = Map<std::string>(
      a.future(),
      [](const StatusOr<int>& n) -> StatusOr<std::string> { return std::to_string(*n); });
  b.Set(Cancelled("no"));
  EXPECT_FALSE(all.ready());
  a.Set(7);
  const auto results = all.Get(Seconds(1)).value();
  EXPECT_EQ(*results[0], 7);
  EXPECT_EQ(results[1].status(), Cancelled("no"));
  EXPECT_EQ(*text.Get(Seconds(1)), "7");
  EXPECT_TRUE(WhenAll<int>({}).ready());
}

TEST(FutureTest, WhenAnyGivesTheIndexOfTheFirstThatResolves) {
  const Promise<int> a;
  const Promise<int> b;
  const Promise<int> c;
  const Future<size_t> any = WhenAny<int>({a.future(), b.future(), c.future()});
  EXPECT_FALSE(any.ready());
  b.Set(Cancelled("no"));  // an error counts, too
  EXPECT_EQ(*any.Get(Duration(0)), 1u);
  a.Set(1);
  c.Set(3);
  EXPECT_EQ(*any.Get(Duration(0)), 1u);
  EXPECT_EQ(WhenAny<int>({}).Get(Duration(0)).status().code(), StatusCode::kInvalidArgument);
}

TEST(FutureTest, OneThatWasNeverMadeCallsBackWithAnError) {
  const Future<int> never;
  StatusCode told = StatusCode::kOk;
  never.Then([&](const StatusOr<int>& result) { told = result.status().code(); });
  EXPECT_EQ(told, StatusCode::kFailedPrecondition);
  const auto same = [](const StatusOr<int>& result) { return result; };
  EXPECT_EQ(Map<int>(never, same).Get(Duration(0)).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(*WhenAny<int>({Promise<int>().future(), never}).Get(Duration(0)), 1u);
  EXPECT_TRUE(WhenAll<int>({never}).ready());
}

TEST(FutureTest, ACallbackMayDropTheLastOfIt) {
  const std::string text(100, 'x');
  const auto promise = std::make_shared<std::optional<Promise<std::string>>>(std::in_place);
  int calls = 0;
  for (int k = 0; k < 2; ++k) {
    (*promise)->future().Then([&, promise](const StatusOr<std::string>& result) {
      promise->reset();
      calls += result.ok() && *result == text;
    });
  }
  EXPECT_TRUE((*promise)->Set(text));
  EXPECT_EQ(calls, 2);
  auto ready = std::make_optional(MakeReady<std::string>(text));
  ready->Then([&](const StatusOr<std::string>& result) {
    ready.reset();
    calls += result.ok() && *result == text;
  });
  EXPECT_EQ(calls, 3);
}

TEST(FutureTest, WhatACallbackThrowsHurtsNobodyElse) {
  const Promise<int> promise;
  int calls = 0;
  promise.future().Then([](const StatusOr<int>&) { throw std::runtime_error("boom"); });
  promise.future().Then([&](const StatusOr<int>&) { ++calls; });
  const auto mapped =
      Map<int>(promise.future(), [](const StatusOr<int>&) -> StatusOr<int> { throw 1; });
  EXPECT_TRUE(promise.Set(1));
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(mapped.Get(Duration(0)).status().code(), StatusCode::kInternal);
}

}  // namespace
}  // namespace packcast
