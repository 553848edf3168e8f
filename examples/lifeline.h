#pragma once

namespace packcast::examples {

// The environment variable that names a descriptor inherited from the launcher: the read end of a
// pipe whose write end only the launcher holds.
inline constexpr char kLifelineVariable[] = "PACKCAST_LIFELINE_FD";

// Ends this process when the launcher goes away, however it does (kill -9 included). No effect
// without the variable. A parent-death signal would follow the launcher's thread, not its process.
void WatchLifeline();

}  // namespace packcast::examples
