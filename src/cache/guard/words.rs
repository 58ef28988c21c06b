//! The lists that the guard knows, as they are written here; `tables.rs` makes look-ups of them.

/// Words that carry no matter of a question: they may come and go. `one` counts as 1 where it is aligned with it.
pub const FUNCTION: &str = "a an the this that these those it its i me my mine we us our you your he him his she her \
    they them their is am are was were be been being do does did done have has had having will would shall should can \
    could may might must able please kindly just really very so then there here and or of to in on at for with from by \
    as about into onto over what which how who whom when where why if whether than also too some any all every each \
    always something anything everything someone anyone everyone somebody anybody everybody hi hello hey thanks thank \
    let lets want need like get got give tell know show help ok okay well now still yet ever even only one ones up out \
    off down asap longer mit avec con";

/// What says no; in a few other languages too. All of them count as one word.
pub const NEGATIONS: &str = "not no never cannot none nobody nothing nowhere neither nor unable nope \
    nicht kein keine keinen nie niemals ne pas jamais nunca nao não sem sin nem non mai senza niet geen zonder nooit \
    ohne sans не нет без nie bez inte utan 不 没 無 无 非";

/// Negations in one word with another, and that word.
pub const CONTRACTED: &[(&str, &str)] = &[
    ("can't", "can"),
    ("cant", "can"),
    ("won't", "will"),
    ("wont", "will"),
    ("shan't", "shall"),
    ("ain't", "is"),
    ("dont", "do"),
    ("doesnt", "does"),
    ("didnt", "did"),
    ("isnt", "is"),
    ("arent", "are"),
    ("wasnt", "was"),
    ("werent", "were"),
    ("hasnt", "has"),
    ("havent", "have"),
    ("hadnt", "had"),
    ("couldnt", "could"),
    ("shouldnt", "should"),
    ("wouldnt", "would"),
];

/// Forms whose stem is not their word's.
pub const IRREGULAR: &str = "went/go gone/go paid/pay sent/send made/make bought/buy sold/sell lost/lose found/find told/tell \
    came/come took/take taken/take gave/give given/give left/leave kept/keep held/hold wrote/write written/write saw/see \
    seen/see knew/know known/know thought/think spent/spend built/build broke/break broken/break stole/steal stolen/steal \
    forgot/forget forgotten/forget chose/choose chosen/choose flew/fly drove/drive ate/eat eaten/eat met/meet ran/run \
    children/child people/person feet/foot teeth/tooth wives/wife lives/life";

/// Numbers from two on, in words.
pub const NUMBERS: &[(&str, &str)] = &[
    ("zero", "0"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
    ("eleven", "11"),
    ("twelve", "12"),
    ("thirteen", "13"),
    ("fourteen", "14"),
    ("fifteen", "15"),
    ("sixteen", "16"),
    ("seventeen", "17"),
    ("eighteen", "18"),
    ("nineteen", "19"),
    ("twenty", "20"),
    ("thirty", "30"),
    ("forty", "40"),
    ("fifty", "50"),
    ("sixty", "60"),
    ("seventy", "70"),
    ("eighty", "80"),
    ("ninety", "90"),
    ("hundred", "100"),
    ("thousand", "1000"),
    ("million", "1000000"),
    ("billion", "1000000000"),
    ("dozen", "12"),
    ("half", "1/2"),
    ("quarter", "1/4"),
];

/// Pairs of opposites that are opposites wherever they stand.
pub const OPPOSITES: &str = "enable/disable ascending/descending ascend/descend asc/desc increase/decrease \
    increment/decrement open/close open/shut close/reopen start/stop start/end start/finish begin/end begin/finish \
    add/remove add/delete add/subtract insert/delete insert/remove create/delete create/destroy create/drop \
    install/remove push/pull push/pop upload/download import/export encrypt/decrypt encode/decode compress/decompress \
    compress/extract zip/unzip serialize/deserialize serialise/deserialise allow/deny allow/forbid allow/block \
    allow/prevent permit/forbid permit/prohibit accept/reject accept/decline accept/refuse approve/reject approve/deny \
    approve/decline grant/revoke grant/deny include/exclude show/hide expand/collapse maximize/minimize \
    maximise/minimise maximum/minimum max/min highest/lowest high/low higher/lower upper/lower most/least more/less \
    more/fewer large/small larger/smaller largest/smallest big/small bigger/smaller biggest/smallest long/short \
    longer/shorter longest/shortest tall/short taller/shorter tallest/shortest fast/slow faster/slower fastest/slowest \
    early/late earlier/later earliest/latest old/new older/newer oldest/newest old/young older/younger oldest/youngest \
    hot/cold hotter/colder hottest/coldest warm/cool heat/cool cheap/expensive cheaper/dearer cheapest/dearest \
    good/bad better/worse best/worst right/wrong right/left correct/incorrect true/false yes/no safe/dangerous \
    safe/unsafe healthy/unhealthy strong/weak stronger/weaker strongest/weakest hard/easy harder/easier difficult/easy \
    hard/soft heavy/light heavier/lighter dark/light dark/bright rich/poor full/empty first/last next/previous \
    forward/backward forwards/backwards forward/back before/after pre/post past/future win/lose winner/loser \
    success/failure succeed/fail pass/fail profit/loss gain/lose gain/loss buy/sell buyer/seller borrow/lend \
    lender/borrower give/take send/receive sender/receiver sender/recipient deposit/withdraw deposit/withdrawal \
    credit/debit income/expense revenue/expense asset/liability import/export entry/exit enter/exit enter/leave \
    arrive/depart arrival/departure arrive/leave inbound/outbound incoming/outgoing input/output internal/external \
    inside/outside interior/exterior indoor/outdoor above/below over/under north/south east/west northern/southern \
    eastern/western top/bottom front/back vertical/horizontal row/column rows/columns positive/negative plus/minus \
    multiply/divide integral/derivative integrate/differentiate convex/concave odd/even prime/composite \
    public/private local/remote local/global static/dynamic mutable/immutable synchronous/asynchronous sync/async \
    read/write reader/writer online/offline active/inactive activate/deactivate valid/invalid complete/incomplete \
    possible/impossible legal/illegal regular/irregular mandatory/optional required/optional permanent/temporary \
    manual/automatic manually/automatically login/logout signin/signout lock/unlock freeze/unfreeze freeze/thaw \
    block/unblock mute/unmute subscribe/unsubscribe follow/unfollow link/unlink pin/unpin archive/restore \
    backup/restore save/discard undo/redo commit/revert attach/detach connect/disconnect mount/unmount load/unload \
    join/leave hire/fire employer/employee landlord/tenant teacher/student male/female man/woman men/women boy/girl \
    husband/wife mother/father mom/dad son/daughter brother/sister uncle/aunt king/queen parent/child ancestor/descendant \
    acid/base acidic/alkaline solid/liquid melt/freeze boil/freeze inhale/exhale import/export sunrise/sunset \
    dawn/dusk summer/winter weekday/weekend day/night advantage/disadvantage pros/cons benefit/drawback \
    benefit/risk cause/effect cause/cure cause/prevent prevent/promote love/hate loved/hated happy/sad happy/unhappy \
    optimistic/pessimistic rise/fall rising/falling raise/lower grow/shrink gain/drop appreciate/depreciate \
    inflation/deflation surplus/deficit bull/bear bullish/bearish supply/demand verbose/quiet visible/invisible \
    uppercase/lowercase ltr/rtl client/server primary/secondary primary/replica senior/junior major/minor \
    domestic/international wet/dry sweet/sour alive/dead birth/death born/died live/die remember/forget tighten/loosen \
    pause/resume suspend/resume renew/cancel keep/cancel keep/delete book/cancel order/cancel accelerate/decelerate \
    deep/shallow wide/narrow thick/thin near/far nearest/farthest closest/farthest closest/furthest vegetarian/meat \
    sell/hold overweight/underweight overestimate/underestimate overflow/underflow import/drop weekday/holiday \
    deductible/nondeductible am/pm bc/ad inner/outer inclusive/exclusive lossy/lossless stateful/stateless \
    blocking/nonblocking singular/plural horizontal/diagonal monarch/president debtor/creditor majority/minority";

/// Pairs of opposites that are often no more than prepositions: opposites only where they are aligned, or beside a verb that
/// takes them ([`PHRASAL`]).
pub const PARTICLES: &str = "on/off in/out up/down with/without to/from into/from for/against since/until before/until \
    near/from to/without like/unlike";

/// Verbs whose meaning a particle turns.
pub const PHRASAL: &str = "turn switch log sign power opt check clock zoom scroll roll shut boot phase top plug back fade";

/// Beginnings that turn a word into its opposite.
pub const PREFIXES: &[&str] = &["un", "non", "dis", "mis", "anti"];

/// What only looks as if a beginning had turned it.
pub const NOT_TURNED: &str =
    "unless discount discover display disease distance distract mistake mission misses";

/// Kinds of names and things of which one does not stand for another. With `!`: wherever they stand; without: where they are
/// aligned. A `=` joins two words for the same.
pub const CLASSES: &[&str] = &[
    "! yesterday today tomorrow tonight",
    "! monday=mon tuesday=tue wednesday=wed thursday=thu friday=fri saturday=sat sunday=sun",
    "! january=jan february=feb march april=apr june=jun july=jul august=aug september=sep=sept october=oct \
     november=nov december=dec",
    "! france germany spain italy portugal greece netherlands=holland belgium switzerland austria poland czechia hungary \
     romania bulgaria serbia croatia slovenia slovakia denmark sweden norway finland iceland ireland britain=uk england \
     scotland wales russia ukraine belarus turkey israel egypt morocco algeria tunisia libya nigeria ghana kenya ethiopia \
     tanzania uganda sudan zimbabwe zambia botswana namibia angola mozambique madagascar senegal mali rwanda china japan \
     korea india pakistan bangladesh nepal vietnam thailand malaysia singapore indonesia philippines taiwan mongolia iran \
     iraq syria lebanon jordan qatar kuwait yemen oman australia canada mexico brazil argentina chile peru colombia \
     venezuela bolivia ecuador uruguay paraguay cuba jamaica panama usa=america",
    "! paris london berlin madrid rome lisbon athens amsterdam brussels zurich geneva vienna warsaw prague budapest \
     bucharest sofia belgrade zagreb copenhagen stockholm oslo helsinki reykjavik dublin edinburgh glasgow manchester \
     liverpool moscow kyiv=kiev istanbul ankara jerusalem cairo casablanca lagos accra nairobi johannesburg beijing \
     shanghai tokyo osaka kyoto seoul delhi mumbai=bombay bangalore karachi dhaka kathmandu hanoi bangkok jakarta manila \
     taipei dubai doha sydney melbourne brisbane perth auckland toronto montreal vancouver ottawa chicago boston seattle \
     houston dallas austin denver miami atlanta phoenix philadelphia detroit portland munich=muenchen hamburg frankfurt \
     cologne milan venice florence naples barcelona valencia seville marseille lyon nice bordeaux angeles francisco vegas \
     york orlando havana bogota lima santiago caracas",
    "! alabama alaska arizona arkansas california colorado connecticut delaware florida georgia hawaii idaho illinois \
     indiana iowa kansas kentucky louisiana maine maryland massachusetts michigan minnesota mississippi missouri montana \
     nebraska nevada ohio oklahoma oregon pennsylvania tennessee texas utah vermont virginia wisconsin wyoming jersey \
     hampshire",
    "! africa asia europe antarctica",
    "! english french german spanish italian portuguese greek dutch danish swedish norwegian finnish icelandic irish polish \
     czech hungarian romanian russian ukrainian turkish hebrew arabic persian=farsi hindi urdu bengali nepali chinese \
     mandarin cantonese japanese korean vietnamese thai malay indonesian latin american british canadian australian \
     mexican brazilian indian",
    "! dollar=usd=buck euro=eur pound=gbp=sterling yen=jpy rupee=inr yuan=cny=renminbi ruble=rub franc=chf peso=mxn \
     won=krw krona=sek krone=nok zloty=pln lira=try rand=zar aud cad bitcoin=btc ethereum=eth dogecoin litecoin",
    "! mercury venus earth mars jupiter saturn uranus neptune pluto",
    "! python java javascript=js typescript=ts rust ruby perl php kotlin swift scala haskell erlang elixir clojure fortran \
     cobol pascal lisp golang c++=cpp c# f# matlab julia dart lua",
    "! linux windows macos=osx ubuntu debian fedora centos android ios",
    "! chrome firefox safari edge opera",
    "! mysql postgresql=postgres sqlite mongodb=mongo redis oracle mariadb cassandra elasticsearch",
    "! numpy pandas scipy pytorch=torch tensorflow keras sklearn matplotlib seaborn react vue angular svelte jquery django \
     flask fastapi rails laravel",
    "! pdf csv json xml yaml=yml toml html markdown=md png jpg=jpeg gif svg mp3 mp4 wav zip tar docx xlsx parquet",
    "! aws azure gcp docker kubernetes=k8s terraform ansible jenkins github gitlab bitbucket",
    "! paypal visa mastercard amex stripe venmo zelle",
    "! google microsoft amazon facebook=meta twitter instagram tiktok netflix spotify uber lyft airbnb tesla toyota honda \
     ford bmw mercedes audi nissan hyundai samsung nokia sony nintendo xbox playstation intel nvidia amd ibm",
    "! ibuprofen=advil paracetamol=acetaminophen=tylenol aspirin metformin insulin warfarin amoxicillin penicillin \
     prednisone lisinopril atorvastatin omeprazole",
    "! einstein newton darwin tesla edison curie galileo shakespeare dickens tolkien austen hemingway orwell mozart \
     beethoven bach chopin picasso dali rembrandt monet napoleon lincoln washington jefferson obama trump biden clinton \
     kennedy reagan churchill thatcher gandhi mandela plato aristotle socrates kant nietzsche",
    "! hydrogen helium lithium carbon nitrogen oxygen sodium magnesium aluminium=aluminum silicon phosphorus sulfur \
     chlorine potassium calcium iron copper zinc silver gold platinum uranium lead tin nickel",
    "! christmas easter halloween thanksgiving ramadan hanukkah diwali",
    "north south east west",
    "spring summer autumn=fall winter",
    "morning noon afternoon evening night midnight",
    "breakfast lunch dinner=supper dessert",
    "red green blue yellow orange purple pink brown black white gray=grey",
    "mother=mom father=dad brother sister son daughter uncle aunt grandfather grandmother cousin nephew niece wife husband",
    "dog cat horse cow pig sheep goat chicken duck rabbit hamster mouse parrot turtle goldfish snake elephant lion tiger bear \
     wolf fox",
    "head neck shoulder elbow wrist hand finger chest back hip knee ankle foot toe ear eye nose throat tooth stomach liver \
     kidney heart lung",
    "football soccer basketball baseball tennis golf hockey cricket rugby volleyball swimming cycling boxing chess",
    "car bus train plane flight taxi bike ferry boat ship truck",
    "apple banana orange lemon lime grape strawberry blueberry mango pineapple peach pear cherry tomato potato onion garlic \
     carrot cucumber spinach broccoli mushroom",
    "beef pork chicken lamb turkey fish salmon tuna shrimp tofu",
    "rice pasta bread flour sugar salt pepper butter milk cheese cream yogurt egg oil vinegar honey",
    "coffee tea water juice wine beer soda whiskey vodka",
    "piano guitar violin cello flute trumpet drums saxophone",
    "savings checking mortgage",
    "sin=sine cos=cosine tan=tangent",
    "sum product quotient difference",
    "mean=average median mode variance",
    "area perimeter volume circumference radius diameter",
    "circle square triangle rectangle cube sphere cylinder cone",
    "list tuple dictionary=dict array set stack queue tree graph string integer=int float boolean=bool",
    "file folder=directory",
    "email=mail phone address username password name birthday",
    "first second third fourth fifth sixth seventh eighth ninth tenth",
    "daily weekly monthly quarterly yearly=annually hourly",
    "when where who why",
    "+ - * / × ÷ ^ < >",
];

/// Units, with their other spellings. They differ where they are aligned or follow a number.
pub const UNITS: &str = "km=kilometer=kilometre meter=metre cm=centimeter=centimetre mm=millimeter=millimetre mile=mi \
    yard=yd foot=feet=ft inch=inche kg=kilogram=kilo gram mg=milligram microgram=mcg lb=lbs ounce=oz ton=tonne \
    liter=litre ml=milliliter=millilitre gallon=gal pint cup tablespoon=tbsp teaspoon=tsp second=sec minute \
    hour=hr=hrs day week month year=yr=yrs decade century percent=%=pct celsius fahrenheit kelvin watt kw=kilowatt \
    volt ampere=amp joule calorie=kcal byte kb=kilobyte mb=megabyte gb=gigabyte tb=terabyte bit hz=hertz khz mhz ghz \
    acre hectare mph kph=kmh degree radian";

/// Prepositions that say which part something plays.
pub const MARKERS: &str = "from to into onto in than with by before after over under above below of for at as per against \
    minus until between on";

/// Markers whose exchange counts in any wording.
pub const DIRECTIONS: &str = "from to into than";

/// Words beside which the order of two things does not matter.
pub const SYMMETRIC: &str = "compare comparison compared difference different differ distance far between similar \
    similarity equal same versus vs relationship + * ×";
