#pragma once

#include <string>
#include <vector>

namespace packcast {

// What an actor's class tells about its methods. Built once, then read by any thread.
struct MethodCatalog {
  struct Method {
    std::string name;   // on the wire
    std::string group;  // the concurrency group that runs it; "": the default one
    std::string about;  // one line for people
    // Types on the wire, for people: "integer", "array of string", "map" and so on.
    std::vector<std::string> arguments;
    std::string result;
  };
  // Identifies the class within this process: equal for equal classes.
  const void* type = nullptr;
  std::vector<Method> methods;
};

}  // namespace packcast
