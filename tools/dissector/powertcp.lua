-- What tshark and Wireshark do not know of MPLampS: the objects of class 252 in RSVP and in COPS,
-- and volts.
--
--   tshark -X lua_script:tools/dissector/powertcp.lua -r FILE -Y 'mplamps.profile.mv == 230000'
--
-- A post-dissector: RSVP, COPS and MPLS are dissected by their own dissectors first. MPLampS
-- sections 2.1, 4.4, 6 and 10. Octets that are no such object are left alone.

local mplamps = Proto("mplamps", "MPLampS")

local ENTERPRISE = 32473
local CLASS = 252
local ERROR_SPEC = 6
local PROFILE_TYPES = {
  [0] = "REQUEST", [1] = "OFFER", [2] = "GRANT", [3] = "REFUSE", [4] = "MINIMUM", [5] = "FALLBACK",
}
local TARIFF_KINDS = { [0] = "LIMIT", [1] = "QUOTE", [2] = "OFFER" }

local f = mplamps.fields
f.profile_type = ProtoField.uint8("mplamps.profile.type", "Profile", base.DEC, PROFILE_TYPES)
f.mv = ProtoField.uint64("mplamps.profile.mv", "Voltage (mV)")
f.ma = ProtoField.uint64("mplamps.profile.ma", "Current (mA)")
f.mhz = ProtoField.uint64("mplamps.profile.mhz", "Frequency (mHz)")
f.prio = ProtoField.uint8("mplamps.profile.prio", "Priority")
f.lease = ProtoField.uint32("mplamps.profile.lease", "Lease (s)")
f.tag = ProtoField.uint16("mplamps.profile.tag", "Tag", base.HEX)
f.flow_label = ProtoField.uint32("mplamps.flow_label", "Flow label")
f.supplier = ProtoField.uint32("mplamps.tariff.supplier", "Supplier")
f.source = ProtoField.ipv4("mplamps.tariff.source", "Source")
f.currency = ProtoField.string("mplamps.tariff.currency", "Currency")
f.kind = ProtoField.uint8("mplamps.tariff.kind", "Kind", base.DEC, TARIFF_KINDS)
f.price = ProtoField.int64("mplamps.tariff.price", "Price (millionths per kWh)")
f.id = ProtoField.uint32("mplamps.tariff.id", "Tariff")
f.valid = ProtoField.uint32("mplamps.tariff.valid", "Valid (s)")
f.estimated = ProtoField.bool("mplamps.meter.estimated", "Estimated", 8, nil, 1)
f.final = ProtoField.bool("mplamps.meter.final", "Final", 8, nil, 2)
f.seconds = ProtoField.uint32("mplamps.meter.seconds", "Time (s)")
f.uj = ProtoField.uint64("mplamps.meter.uj", "Energy (uJ)")
f.packets = ProtoField.uint64("mplamps.meter.packets", "Packets")
f.octets = ProtoField.uint64("mplamps.meter.octets", "Octets")
f.reason = ProtoField.uint16("mplamps.reason", "Reason")
f.volts = ProtoField.double("mplamps.volts", "Voltage of the link (V)")

local rsvp_field = Field.new("rsvp")
local cops_field = Field.new("cops")
local label_field = Field.new("mpls.label")

-- 16 octets of a power profile (Power over TCP, section 1)
local function profile(tvb, tree)
  local head, shape = tvb(0, 1):uint(), tvb(1, 1):uint()
  local scale = bit.band(head, 2) ~= 0 and 1000 or 1
  local frequency = tvb(8, 2):uint()
  local lease = tvb(13, 1):uint()
  local lease_s = (16 + bit.band(lease, 15)) * 2 ^ bit.rshift(lease, 4) - 16
  local own = tree:add(mplamps, tvb(0, 16), "Power profile")
  own:add(f.profile_type, tvb(0, 1), bit.band(bit.rshift(head, 3), 7))
  own:add(f.mv, tvb(2, 3), UInt64(tvb(2, 3):uint() * scale))
  own:add(f.ma, tvb(5, 3), UInt64(tvb(5, 3):uint() * scale))
  own:add(f.mhz, tvb(8, 2), UInt64(frequency * 10))
  own:add(f.prio, tvb(1, 1), bit.band(shape, 15))
  own:add(f.lease, tvb(13, 1), lease_s)
  own:add(f.tag, tvb(14, 2))
end

local function tariff(tvb, tree)
  local own = tree:add(mplamps, tvb(0, 28), "TARIFF")
  own:add(f.supplier, tvb(0, 4))
  own:add(f.source, tvb(4, 4))
  own:add(f.currency, tvb(8, 3))
  own:add(f.kind, tvb(11, 1))
  own:add(f.price, tvb(12, 8))
  own:add(f.id, tvb(20, 4))
  own:add(f.valid, tvb(24, 4))
end

local function meter(tvb, tree)
  local own = tree:add(mplamps, tvb(0, 32), "METER")
  own:add(f.estimated, tvb(0, 1))
  own:add(f.final, tvb(0, 1))
  own:add(f.seconds, tvb(4, 4))
  own:add(f.uj, tvb(8, 8))
  own:add(f.packets, tvb(16, 8))
  own:add(f.octets, tvb(24, 8))
end

-- the content of an object of class 252, its header and enterprise number left out
local function private(c_type, tvb, tree)
  local size = tvb:len()
  if c_type == 1 and (size == 16 or size == 32) then
    for at = 0, size - 16, 16 do
      profile(tvb(at, 16):tvb(), tree)
    end
  elseif c_type == 2 and size == 4 then
    tree:add(f.flow_label, tvb(0, 4))
  elseif c_type == 3 and size == 28 then
    tariff(tvb, tree)
  elseif c_type == 4 and size == 32 then
    meter(tvb, tree)
  end
end

-- the objects of RSVP between two offsets; a length that cannot be ends the walk
local function objects(tvb, at, size, own)
  while at + 8 <= size do
    local length = tvb(at, 2):uint()
    if length < 4 or length % 4 ~= 0 or at + length > size then
      return
    end
    local class, c_type = tvb(at + 2, 1):uint(), tvb(at + 3, 1):uint()
    if class == CLASS and length > 8 and tvb(at + 4, 4):uint() == ENTERPRISE then
      private(c_type, tvb(at + 8, length - 8):tvb(), own)
    elseif class == ERROR_SPEC and length == 16 and tvb(at + 9, 1):uint() == CLASS
        and tvb(at + 12, 4):uint() == ENTERPRISE then
      own:add(f.reason, tvb(at + 10, 2))
    end
    at = at + length
  end
end

-- a message of COPS: objects of RSVP stand in ClientSI (9, 1) and in the data of decisions (6, 3)
local function policed(tvb, tree)
  local own = tree:add(mplamps, tvb(), "MPLampS")
  local at, size = 8, tvb:len()
  while at + 8 <= size do
    local length = tvb(at, 2):uint()
    if length < 4 or at + length > size then
      return
    end
    local number, c_type = tvb(at + 2, 1):uint(), tvb(at + 3, 1):uint()
    if (number == 9 and c_type == 1) or (number == 6 and c_type == 3) then
      objects(tvb, at + 4, at + length, own)
    end
    at = at + length + (-length) % 4
  end
end

-- the volts of a label, nil for one that is no voltage
local function volts(label)
  if label == 0 then
    return 0
  elseif label > 1000000 and label < 1016000 then
    return (label - 1000000) / 1000
  elseif label >= 16 and label <= 1000000 then
    return label
  end
  return nil
end

function mplamps.dissector(tvb, pinfo, tree)
  for _, found in ipairs({ rsvp_field() }) do
    local message = found.range:tvb()
    objects(message, 8, message:len(), tree:add(mplamps, message(), "MPLampS"))
  end
  for _, found in ipairs({ cops_field() }) do
    policed(found.range:tvb(), tree)
  end
  local top = label_field()
  if top then
    local value = volts(top.value)
    if value then
      tree:add(f.volts, top.range, value)
    end
  end
end

register_postdissector(mplamps)
