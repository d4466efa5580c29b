-- Tells radcds of each image that Orthanc has stored, so that a radiograph is read at once.
--
-- In orthanc.json:   "LuaScripts": ["/etc/orthanc/radcds.lua"]
-- Beside it, a file with two lines: the address of radcds, and the token that it knows
-- (RADCDS_PACS_EVENTS_TOKEN names the file of that token on the other side).
--
-- What is lost while radcds is away, its own watch finds later.

local file = assert(io.open(os.getenv("ORTHANC_RADCDS_EVENTS") or "/etc/orthanc/radcds-events"))
local address, token = file:read("*l"), file:read("*l")
file:close()

if SetHttpTimeout then
  SetHttpTimeout(2)
end

function OnStoredInstance(instanceId, tags, metadata, origin)
  local event = {
    study = tags["StudyInstanceUID"],
    series = tags["SeriesInstanceUID"],
    instance = tags["SOPInstanceUID"],
    modality = tags["Modality"]
  }
  HttpPost(address .. "/pacs/events", DumpJson(event, false), {
    ["Content-Type"] = "application/json",
    ["Authorization"] = "Bearer " .. token
  })
end
