// Git LFS leaves a small text in place of a file until the file is fetched.
#pragma once

#include <string_view>

namespace whit {

// MappedFile::open and read_file refuse such a file (ErrorKind::input): nothing that is opened here may be one.
bool is_lfs_pointer(std::string_view content);

}  // namespace whit
