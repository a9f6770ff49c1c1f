// The torch line, as far as sources show it. The lean build (house_lean, slow) proves it on the binary.
#include <gtest/gtest.h>

#include "house/tree.h"

namespace whit::house {
namespace {

bool is_torch(const std::string& target) {
  for (const char* start : {"torch/", "ATen/", "c10/", "caffe2/", "c10d/"}) {
    if (target.starts_with(start)) return true;
  }
  return false;
}

// Rooms that may know LibTorch at all; of them only model/torch should need to.
bool is_behind_the_line(const std::string& file) {
  for (const char* room : {"model/torch/", "calibrate/", "methods/", "pipeline/", "search/"}) {
    if (file.starts_with("src/" + std::string(room)) || file.starts_with("tests/" + std::string(room))) return true;
  }
  return false;
}

TEST(TorchLine, NoTorchHeaderBeforeIt) {
  for (const char* folder : {"src", "tests", "bench", "tools"}) {
    for (const Include& include : includes(folder)) {
      if (!is_torch(include.target)) continue;
      EXPECT_TRUE(is_behind_the_line(include.file))
          << include.file << ":" << include.line << " includes <" << include.target << ">";
    }
  }
}

// Every header that many files include costs its torch headers each time: only headers inside model/torch have them, and
// no other room includes those.
TEST(TorchLine, HeadersThatLeaveModelTorchAreFreeOfIt) {
  std::set<std::string> with_torch;
  for (const Include& include : includes("src")) {
    if (!is_torch(include.target) || !include.file.ends_with(".h")) continue;
    EXPECT_TRUE(include.file.starts_with("src/model/torch/"))
        << include.file << ":" << include.line << ": a torch header in a header outside model/torch";
    with_torch.insert(include.file.substr(4));
  }
  for (const char* folder : {"src", "tests", "bench", "tools"}) {
    for (const Include& include : includes(folder)) {
      if (!with_torch.contains(include.target)) continue;
      EXPECT_NE(include.file.find("model/torch/"), std::string::npos)
          << include.file << ":" << include.line << ": " << include.target << " brings torch headers along";
    }
  }
}

// A whole torch header costs about half a minute a file.
TEST(TorchLine, WholeTorchHeadersStandNowhere) {
  for (const Include& include : includes("src")) {
    EXPECT_TRUE(include.target != "torch/torch.h" && include.target != "torch/all.h" && include.target != "ATen/ATen.h" &&
                include.target != "torch/extension.h" && include.target != "ATen/Functions.h")
        << include.file << ":" << include.line << ": include the narrow ATen headers instead of <" << include.target << ">";
  }
}

}  // namespace
}  // namespace whit::house
