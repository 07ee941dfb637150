// tokenizer.c -- byte-pair encoding: text to token ids and back, and learning a vocabulary from text.
// Pure: memory in, memory out. It neither allocates nor prints and keeps no state; no text and no tokenizer,
// however hostile, makes it crash or hang.
//
//     encoding   Of all neighbours that form a known pair, the pair of the smallest rank becomes one token.
//     learning   The most frequent pair of neighbours becomes a new token.  Both again and again.
//
// Source: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016).
// GPT-2's encoder (2019) added the alphabet of 256 bytes, to which no text is unknown, and the pre-tokens:
// pieces such as words, which no token crosses.
// Read in this order: characters -> pre-tokens -> tables -> merging -> special tokens -> index, where all
// that comes from a file is checked -> encode -> train, which needs only the first three.
// Tests: tests/test_tokenizer.c.
#include "model.h"
#include <string.h>

enum {
    VOCAB_MAX = 1 << 24, MERGES_MAX = 1 << 24,    // the largest tokenizer
    SPECIALS_MAX = 1 << 16, SPECIAL_BYTES = 128,  // special tokens; the longest bounds the search for them
    WORD_BYTES = 32,                              // the longest pre-token that is looked up whole
    LEARNED_BYTES = 128,                          // the longest token that training makes
    PROBES = 128,                                 // places tried in a hash table; GPT-2's need 21 at most
    TEXT_MAX = INT32_MAX                          // bytes of text at once
};
#define NONE UINT32_MAX                           // no position, no merge, no place
static const char END_OF_TEXT[] = "<|endoftext|>";

// 0 if value lies in lo..hi, else -1 with the fault filled in.
static int check(Fault *f, const char *what, int64_t value, int64_t lo, int64_t hi) {
    if (value >= lo && value <= hi) return 0;
    f->what = what;
    f->value = value;
    f->lo = lo;
    f->hi = hi;
    return -1;
}

// Bytes as a size_t; what this machine cannot address becomes a size that no allocation gives.
static size_t to_size(uint64_t bytes) {
    return bytes < SIZE_MAX ? (size_t)bytes : SIZE_MAX;
}

// ---- characters -------------------------------------------------------------------------------------------
// PACKED tells what Unicode says of characters, as whole numbers, which `unpack` reads one by one:
//     runs of letters, numbers, spaces;  runs of marks, by the rank of their combining class;  splits, those of
//     the canonical decompositions that are in the tables (Hangul's are arithmetic)
// dev/unicode.py wrote it and tells the order of the numbers. The tokenizer's index has it unpacked: a byte for
// each code point up to CODES, beyond which there is nothing but OTHER.
enum { OTHER, LETTER, NUMBER, SPACE };            // the class of a character: the lower two bits of its byte
enum { RANK_SHIFT = 2, ACTIVE = 63 };             // the upper six: 0 for most, a mark's rank, or ACTIVE; see below
// ---- begin of what dev/unicode.py wrote: do not edit by hand
// Unicode 15.0.0: letters are the categories L*, numbers N*, spaces the property White_Space.
enum { CODES = 0x33000, SECONDS = 89, SPLITS = 2061 };
static const char *const PACKED[] = {
    ".rC]Dx@nIUYRY`@#Q@[@VAC@J@@@DBCVC^C)PLKjDU@C@(IDCAFCC@R@CBC@CSC#SC$LX$gCeF@Rh%XZLC$Ij#AILAC#cC@mAUAAI@B",
    "F@p@C]#X#Ya@kI@`[AL@OUL@[@I@#FXUJOWCEsi$puI@v@UIMICOLGFAFUCFC@ICI@p@gACBMI@AGEF@XELAFUCFCACACA#^CC@VIFB",
    "pHCBCUCFCACDI@v@mAMI[@aGFAFUCFCACDI@#[ACBMIC@AEa@CEIBCCIAC@CAIAIBIK#C@#ALvGCBCVCOI@#OBF@FAMIYFC@LGCBCVC",
    "ICDI@#^ACAMICAsHCBChF@p@OBDF@BMRCEOQIWCHC@FF#_IsoCAdF\\I#vAC@CDCWC@CICA[@FDC@\\IFC#a@#_SdGCc#RD'^j|@AIR",
    "ELCI@IAUBLLd@DIReC@O@FjC'QCCFFC@CCFhCCF`CCFFC@CCFNCxCCF#CkSIOp#VFEI+tFPB@@YO#KJB@GUQgRjQjLCBms#j@L@JISI",
    "#DIR#YUDFaC@O#F^^#wI@]FDakLYSJ#pV[t$DISIg@&[nsGJI#|]gAAI@k#Oc#VIIBAI@cFHUjFB#|CCECAI@O%B%C&YFEFeFEFGC@C",
    "@C@C^FtCFC@IBCFICFELLOBCFKJ#ZAQ@$Q@q@@@GEO@AIRL&s@L@FIC@IDR@C@C@CCCJFCODL@Dr@AAD#(e{%nU#$A]#;y%gRCIA\\@",
    "FeC@O@FwU@pV[FCFCFCFCFCFCFCF%s@8H@LAA@#MHUDGB@AL#VRBC#ZCCOjC#^JC^_$RO#bI#\\GDN#bI#wN1O%6g%C.1k%LmF&PIOA",
    "I@A|np^F#FAI#vHF#gF#@OAC@CD#IOCBCCCVhE^sjq#VI#IEI@CADI@[^V#L\\Un#U@AIRDCIAI@DCh#FBCGMIRVI@IqC@IAFDF@C@",
    "#IBFJUBdEFEFE[FCFCjCMR#shIR(+TdVLp0,^'rF#j#sFdDO@CICLCDC@CACAC#l#d'ov#@Fu#yK'aDC$HzIUYRYa#YIEFEFEFB#jKC",
    "YCRCACNFM#g#{elextA-g\\IpqZL_AC[SA@@GA@Oe^]FcLGDD$@$_GIRcLcLgXsdJCNCFCACJCNCFCA%L&z[U^G#IECiCH%REF@CkCA",
    "I@FVGG@VGF@^YH$RRCAPD@UAELY%UwMA@AAOGm@@mCCBC\\_H#F\\AAC\\AB#aGC[SDpu^UGG@RPG@Q#GF%s#I$grgrVE@ceI0A^CiR",
    "A%m\\AI@@XUbC#RQ$LTAF|Vdt#P]CAF@gl#aXVI[cnIL@F@XbI@dojCbI@@C@MSaQCXyA%@FC@CCCNCIUntIaGFAFUCFCACDI@v@dD",
    ")atvCPIOB#[o|AC@YI)yn#|C#mo|@bI#sjg@VI$dZ#AKLF*sk'a#@ARdGF@FGCACWm@C@kI%UGFfp@C@#U@^gU@#@@amy@v#I.aHCds",
    "@n\\O]'UFCACe#@@\\IRECAC_j@VI0pRm@CLCa#VI&F@nT$C0g&w#os%F&/a#am3@sE(9j+O05F+AU^DIR#ODIR]vopCeIDFCTOR#&p",
    "#@AV'@#KO@%IL%CAC@#U%/XX5h$@H1'^CCFCAC&fm@#XBF@jCX(Q%;y#kOLIHUI+4ASeS'JX([#UC#GCAF@FAFCCKC@CFC#ACCFGCFC",
    "[CCCDC@IFC'XFXCXC^CXC^CXC^CXC^CXCGGq%#U^RE.[}(|l^FGIL@1R]vkMI8X[MI#)UFCCCACNC%GGH$R#DU@MI#+kzDBDC%hlDN",
    "+OCCZCAC@F@CICCC@C@R@L@C@C@CBCAC@F@C@C@C@C@CAC@FCCFCCCCC@CICPOBCDCP=hL&6nI#7C:(E#a$+zR%`F%)\\j&(f')p*e",
    "$1m$8XO$,a(Jw9=QTs@mCs@k@mDiAmCiAmJ@DmCrGv@r@mBrBmA#jBmCr@s@mAr@t@uAt@uAt@rL*2wD**D@rCm@rBn@m@rEmErAm@r",
    "An@q@r@E@F@G@H@I@J@K@L@M@NAO@P@Q@#J@#K@T@#j@m@#E@$)iGY@Z@[@#0P@W@X@Y@Z@[@\\@]@rAmArDm@rAm@0\\@%&}F$bCm@",
    "r@$bA#e@rAm@#%C@<~@m@rAm@rAmBr@mAr@m@rBm@r@m@r@m@r@m@rA&>^Fm@r@*d@7oC#jH#jB#jD#,PB#;K@mBrC#+]DmDrM#e@rA",
    "m@rAm@rBmBV@W@X@rBm@rAmArD#:Z@0B@%Z@m@rA%'|@0B@#0l@#;R@0B@%.D@0B@%.D@0B@%<{@%.D@0B@(g@a@%&M@0B@%-NA0B@",
    "%:T@%-lAD@-yC%,vAD@-{C$-DA:R@#e@#c@#6g@g@#`@&~C$W@#jAD@#jA#<u@%/s@{A$2S@8._B##1kA<P@&;H@+a@(,@@&/d@r@m@",
    "(9~@m@$(C@4PG$]@#0lDmErAm@#eArAmArDm@rC%&M@/J@#'}@m@rF#5MA#8j@+jA$$a@&7_Bw@mDrAmCr@wF&M@(B@%ZA('iAm@rFm",
    "@rAu@j@m@i@rds@qAm@l@r@t@m@r@m@8/WA@ArC@BrA&R@$gAr@m@r@@AmCr@%-6|B&-J@$>f_3*V@q@s@n@oA%)mA#'20\\@&RI>nA",
    "$0hA*3A@#&W@&5x@:WQ#8^B#&W@$<}@,b@)/\\@#jAm@$bA'JA#j@#3]@)4t@82$G@9>IFmFrA#$,J@)$A@&4wD#:/H@#j@#)m@@@m@",
    "%c@'&u@m@3;BC.$iA$0cB$'tArBm@r@mC#1d@m@r@m@'=k@#)v@.R@#7t@B@$'BB#/}A#<J@$,Z@)x@%*f@B@'1[@D@$/wA0B@7oF%Z",
    "D(-B@$i@6w@%$_@B@)9L@B@%<D@%5E@B@%2]@*,y@B@*#SA%a@&:P@$2a@1q@$0q@/%f@*#Q@{A$0q@/)FA71>{D#:SF#+5_A79=c@",
    "';9XA@B%X@kD)lG$bDmA<~C&4@B%;3\\F#jP$bF#jA#jD%&F@&>^F-6K@#<CC1:SAm@r@#$<oF%-|EB@A:Z:X<d:h0$|:f:`<J;_:p",
    ":\\:d<^:^:j;g#4g;{;A:v:~:z;s);G;i&1n0$~$5D:l:n;y#9[$=L;O;e&9$Q#4m$5C$9H%6R&/~$9&\\&9$c&9$e;a;c;u#4]#4q",
    "#4s%)T%-[%.N%9g%>D&1j$9)y$:2n:[<K#4W#4_#4a#9Y#9]$9K$9}%)W%*H%*J%2P%5k%6T%:Z%>N%>n&/b&/f&5_$9:x$9;k$:*h",
    "$:*|$:+C$;3M&9$g&9$i&9$k+5Q$DA@K@N@D@]@#jDBDA@K@D@BHA@K@D@#hJBBA@K@N@D@$vLA@K@D@AH$vPA@K@N@D@]@#jDBDA@K",
    "@D@BHA@K@D@#hJBBA@K@N@D@$vLA@K@D@AH#^@G#pG#AL#@L#AY#@Y#AA{A#AK#@K#AF#@F#AJ#@J#AJ}J#A${}G#AL#@L#AF#@F#AY",
    "#@Y#AJ#@J#AK{K#AL#@L#AF#@F#AP#@P#AK}K#A%C}N#AG#@G#AL#@L#AY#@Y#AF#@&ZBK#AP}P#A#[}A#AP#@P#AJ#@J#A'j{A#AP",
    "#@P#AJ#@J#A&V}G#AL#@L#A^#@^#A$uyA#AP#@P#AJ#@J#AA}A#AK#@K#AP#@P#AJ#@J#AP}P#AJ#@J#A%C}N#AG#@G#AL#@L#A]#@]",
    "#A^#@^#AY#@Y#AK{K#AK{K#AD#@ABA#AF#@F#AJ#@J#A#5J#Vb#A4ysb#A#-m#hJ#AJoJ#AJsJ#AJsJ#AG%QG#AA#@A#AJ#@J#AB#@B",
    "#A#a#pG#AG,NGBG-LG#A$~'BJ#AJwJ#AYwY#AG.BGBJ#hJ(|J3`&P#FA#A$vqB#AA$pA#AA}A#AA[A#AT'rT#AV#@V#ATwT#AV#@V#A",
    "TwT#AV#@V#ATsT#AV#@V#ATyT#AV#@V#ATyT#AV#@V#Ac#Dc#Ac}c#A$~#XJ#A*d#NF#APwP#AG%eG#AG#BG#AF'PF#AG0LGBG0yG#A",
    "/0f6b@B#Zd{U$,Y$_.m6O*_%]A9i@9JA9SADAD#[L#[LAHA#C#)X#bDXAXAHADADAd#)XcDXAKALAH'jRD@$&q$HD@#[C&SY'jhBCLV",
    "0TU#1~#A#%GED@#[C&S#G'jwBCLV#&s#cTB%5T%@L#A4c#LL#AD#@D#A%AuL#A$x'KDBD(KD#AD}D#A${}G#AD#@D#ADsD#A$x'YDBD",
    "'|D#AG#TG#AD#@D#A^#@^#ADwD#A$xwD#A0=K1G`@`#C#B#B`#G)6i&Z#zg9Gb#$%~4~,_P%[F#7x{\\B\\B\\J\\J\\B\\R\\H'.M",
    "&t#D@7s#LgB$BZ&'q&J%VL#6c#DaBaJ%V^-8P+A%y@#G@8@#LsB$7H%c$5l#itBuA((x&D'>o%u+GN#J@$c@hH(,v%{vB#KA)&D&j$f",
    "@wF#ME3=U-]/HT(DJ(DJ(DJ3uu/{#c$i@i$D$DB-|$E:[#C/HT(DJ(DJ(DJ3uu'/t&n&>-z%&X#rD#rD#rD#rD&gH#>x#S#rD%MDXB",
    "#rF#)+g)9\\n#AF}F#AI#@I#AR#@R#AA%MA#AF'JF#AI#@I#AR#@R#AP#@P#AW#@W#AB'aBBAAABW(aW#A_#@_#AL0TLBF1TF#AG}G",
    "#AF}F#AI#@I#AD#@D#AP#@P#Ao#@o#A_}_#AA%OA#AA'LA#AI#@I#AR#@R#AI}I#AG*4FGBR*5HR#AW#@W#AA}A#AF#@F#AI#@I#AF}",
    "F#AI#@I#AR#@R#AW#@W#AA%QA#AD#@D#AB$pBBAAABA*AA#AF#@F#AF{F#AI#@I#AG*5CGBR*6ER#AF}F#AI#@I#AF)UFBFJFBF*-mF",
    "BF*6QF#AI#@I#AR#@R#AW#@W#Am}m#A_#@_#AW#@W#AA)mABDBDBN*qN#AI#@I#AB}B#AA#@A#AD#@D#AF#@F#AI#@I#AF}F#AD#@D",
    "#AF}F#AK}K#AI#@I#AR#@R#ARcDX]F]D#`*T'r,EI#AO#@O#AA%EA#AB#@B#AO#@O#AN#@N#AK*3mKBA*2mABBABBOAOBNANBL*2jLB",
    "I*8mI#AO#@O#AN#@N#AA%MA#AB#@B#AO#@O#AN#@N#AK*4NKBO*9VO#AI#@I#AIsI#AO#@O#AA%MA#AB#@B#AO#@O#AN#@N#AK*4bKB",
    "A*/FABBABBOAOBNANBIAIBI,aI#AO#@O#AA+}ABBABBOAOBNANBIAIBB,wB#AI#@I#AO#@O#AN#@N#A*s<JS@B);{BBAAABMAMBU)<}",
    "S@B)=MBBAAABMAMBU)<ES@B)<TBBAAAB%J)=VS@B)=eBBAAAB%J)<aS@B)<pBBAAABMAMBU)=rS@B)>BBBAAABMAMBU)<}S@B)=MBBA",
    "AABMAMBU)>OS@B)>^BBAAABMAMBU)=RS@B)=aBBAAAB%J)>cS@B)>rBBAAAB%J)=fS@B)=uBBAAABMAMB#m)>w#\\*#I#[@#g@U)=~S",
    "@B)>NBBAAABMAMBU*#PS@B*#_BBAAABMAMBB*#P@IBR@OBT@QBV@SB`@ZBM@PBG@J$w);ACBCBCBCBCBCBCBCBCBCBCBCBCBCBCBCbC",
    "BCBCBCBCBCBCBCBCBCBCBCBCBCBCBC#cCBCBCBCBCBCBCBCBCBCBCBCBCBCBCBL*#\\G@C*#_C*#^CI#gJC*%mL*&mG@B@@UCV#Z#Q",
    "%B:yC*<RC*#ZCQ#gRC*&BB*'F@YB^@[C\\B*&tA@M@L*%nG@Bb@#t%B#SMbL#bG@B@@]#\\*)OA@M@L*'VG@BL@uUbS@MHMLL#LG@B@",
    "@mSfB:I@9Q@;b$w*>tC*#FCJ#gIC*&~B*(S@eBz@sCt@:A$t+$Z@B06`*(Y&O=V@%w'1a+0`HD;cD#0`#yHHHC$3e#c'qJ$|F#&gp#b",
    "D#*vn$|N$|D#bF#%M+:i#b+;]0PgH+:uHDH+;aHB$|ZHB$|FHB*fFHB$|NHB$|FHB#6JvHLHBHD$-{#^HBHhHB*f#AHBHBHB$=V%:R@",
    "B%1,c#0A$0'I#2H#_D#_D#_D#_D#_D#_D#_D#_D#_D#_D#_D$yF#_D#_D*cN[@#_F[@#_F[@#_F[@#_F[@#%J#j.r$p4\\\\#_D#_D",
    "#_D#_D#_D#_D#_D#_D#_D#_D#_D$yF#_D#_D*cN[@#_F[@#_F[@#_F[@#_F[@#%J#j$y$TEBEBEB&TV%*))d</{@,9V@-1o@2S@*5`@",
    "+/F@#4T@7=U@@@6-P@2-K@3/|@#$`@$0b@'<L@$4B@#<j@.B@,F@$'k@-'R@;K@#$Z@:b@&7C@%9E@$/S@7;B@#.N@(9]@$#g@'9G@",
    "(<d@48i@'-M@(+u@##K@-'n@*>Z@#9A@-=x@$-]@#9Y@#3Q@*4V@4<a@3s@+W@'']@#7O@$$t@#-U@$3}@#6z@$n@$'c@$5Q@#(\\@",
    "6j@,:K@)m@#'c@#8D@&-q@%+S@'5p@00C@#7{@*0f@#']@&$i@#:D@'8R@$<|@3>u@>p@%=Q@#$l@+s@&$r@*X@(=k@52U@/)e@/1X@",
    "_@-5g@##a@#8X@',^@%'B@-8k@$$`@+2D@33v@%=K@#'w@'4H@1a@+=H@,={@-=F@&3U@'%F@*;w@$%b@(:T@->M@#+[@*:~@%9{@",
    "#9u@*=Z@,.P@,'l@$7`@+)Q@+$G@'&Z@-(g@8L@%C@(2h@';q@#2|@$.J@#>r@4(q@,d@#0L@#2^@#=i@$=E@$4b@*)m@#,`@#'{@#o",
    "@8%P@'9y@#,H@,-y@0'h@;Q@%c@7I@%#g@3]@<Z@#0l@#'u@6J@&)e@$=B@%)E@;g@4;v@&\\@3E@*%y@(<v@1_@.6e@+a@>h@$,h@",
    "&8f@$1X@,3J@$+k@#.D@0t@5W@'5K@'s@%(|@']@''m@#,j@$f@(f@7#f@.(\\@(=O@#.p@13b@'+J@4z@%(B@$d@$6@@#)u@$)W@",
    "#*L@&)k@%+]@&,\\@21X@/9O@53n@($N@%s@#1G@-A@#2F@,j@:|@#+o@);y@62a@&:J@1&|@6-T@%7E@&:j@+4N@/9@@0@@#=]@%*|",
    "@,&Z@59d@1[@$-o@$8j@,@@,~@#(\\@$#{@1G@$7{@$5w@d@$2^@#/U@53j@)=U@)6Q@*3W@8f@'#Q@&9Y@#4V@4b@1=N@#8Z@'9]@",
    "$#r@$l@-o@$9r@3^@)7W@32[@1(V@0(E@#f@%4d@#'{@)1Y@+4o@'%A@#:G@-7W@#>U@&#s@%5j@.-J@%<S@#*d$t7I#Z&$f$t'=R@",
    "+4f@##]@5w@#E@N@#U@*4@@)6G@:V#Z#9]#Z#-s$t#0j@(P&O$*d@Z@#Y@#*|@%6S@#5a@63R@+{@%O@.D@v@%]@4j@%U@%G@0~@%S@",
    "#$V@T@#'m@(n@#M@%K@=U@&j@'c@1w@#.L@'K@*X@4j@(@@1}@#*B@'_@V@A@P@L@N@#a@B@'i@$D@,H@3y@j@#q@+k@&j@1_@&\\@@",
    "@1K@#,X@&P@-a@#q@/A@#k@7q@&H@#<L@+A@#y@2'P@&>#C@&4)j$t1$I@>z@$[@1^@0X@#w@,X@#g@7[@$Q@$J@$T@6D@$t@&f@`@",
    "*d@(R@##q@N@&d@$J@+_@%o@$M@&P@#\\@&h@$F@.l@$r@#m@*P@+E@'K@H@#w@#'g@$D@.Z@/A@_@$p@*@@,j@#8d@#2O@%w@%y@,X",
    "@&n@#k@)K@D@'[@b@r@$n@S@.d@1Y@*f@'{@)G@&v@,^@(T@<t@&~@>p@0^@$L@`@+[@#s@#Z@#m@E@a@$Z@$d@.H@3q@+}@+W@)A@",
    "#&l@%Q@%i@&N@#I@X@#a@9E@#*x@&#=S@K@%,@@'(+p@#*Z@#C@'/9s@%#c@+:Z@&='X@$X%-g#23J$Kr0yQr@q$1(Jr@p$1({~@Q@Q",
    "BQBQBQBQBQB#kDQBQBQBQB#kD#kDQB#kDQB#kDQBQBQBQB#@ieGeTeR+9#R$7-a$ED6\\T(2c&\\yB=(m2z#R@40W-o#S@$o@.5`*Fz",
    "B#3#^>T$><.e#;.\\dBkNl@#W@#X@#Y@&,D$vdBkBkBlAlB&960U%>/J@I@R@&0(P@&/;H@$^@Z@$P@%s@~@$^@o@*'F@&9&@@&08w@",
    "N@`@f@&0.^@&88C@*+E@#M@&0/Q@&0.{@Z@9F@9W@R@'=(^@'=&[@\\@*.s@*0f@V@#Y@J@*0q@*3U@D@v@l@V@B@b@#e@P@R@r@T@D",
    "@@@@@&1+G@&(;x@**s@j@&11{@&11b@L@j@&t@%N@`@#A@#u@$j@t@$H@`@#C@@@j@d@P@^@,r@*g@*j@(Q@#G@#)|@#>F@+H@#M@r@",
    "&G@'S@A@%y@&2<J@&29z@J@^@h@P@$B@&3(n@$F@&3&[@#_@X@$_@&`@,*O@\\@,.|@#m@@@&33A@&3.q@j@^@X@&37{@&37b@N@<t@",
    ";z@,3j@,5i@\\@$f@#f@&4-q@&4'~@&4(D@&4&k@E@b@%M@B@,<W@,=O@#W@j@#Y@-#B@'#=I@'#<S@-$^@F@F@h@'>2@@'>0U@&5)A",
    "@@@&+$]@,%X@@@-%l@'(9q@/5C@'++D@R@-'H@-(h@#g@T@#E@&T@--L@{@-.p@&59k@&58C@&F@H@D@C@#]@h@#I@[@V@#_@h@H@t@",
    "V@$F@$j@#G@%{@&6)o@&6*U@$C@%[@v@%E@&6,T@&6*U@${@w@.#F@.)M@j@~@#L@.'j@..b@z@&7%K@&6=X@*r@'b@.0}@.3Q@.3r@",
    "#H@(2T@F@((D@%J@)1u@34U@,(Z@H@L@#{@U@&73}@'(-v@.=M@%l@(`@#g@&7/i@&7/V@%`@)q@/'^@/(|@%E@$P@(B@&70P@&7.g@",
    "/2A@/4P@&7<r@&7;J@/4I@/5G@#[@v@B@&8+U@*1r@*5Q@&8*G@&88Z@&84s@\\@%N@'c@#Q@#s@#l@#Q@^@Z@&81i@&84M@)}@$@@",
    "0*E@0-C@G@&85O@&8;p@-u@&84Z@#a@&83H@%i@u@E@04c@06D@#g@K@#m@&'-G@&'(Q@&8>@@&8;N@&9)i@&9%L@Z@v@&97I@&95f@",
    "j@&9>`@)E@&9>S@b@1+j@1,`@1,G@@@11Q@j@j@h@$L@12Q@15I@&:6X@&:5b@&:8^@&:6w@&.)u@&.$o@&;.j@n@&\\@'/+T@X@1<V",
    "@&;2J@A@#O@t@&;2u@B@@@#W@1=`@2#e@2#J@$b@'0)m@&<$w@#}@$B@2(W@'07s@&<-B@&<0n@#W@&<0Q@$z@2/D@21q@T@J@&=$P@",
    "+_@@@&=(k@20e@'2#c@&=*E@F@26W@'2)I@&=(U@2:{@2;i@I@z@&>#]@&=<S@2<]@3#i@#w@$H@3&A@'32d@~@'32W@'37A@&>*U@",
    "&>-c@&>,k@%M@V@&>6N@$T@&>5h@&>9w@&>9V@&0(l@'%9N@34h@$d@35^@37W@-'J@'.,N@\\@1%j@R@&/9x@F@%<b@79H@4#E@K@d",
    "@/;X@/<B@D@T@#S@'#6l@'#6m@#q@$N@$V@&W@&x@#U@%c@*O@%q@D@`@'#6t@+s@&o@'6%V@40R@D@#G@'%2\\@'%/|@'$&\\@'66q",
    "@H@'6:x@+K@'7'n@49Y@X@V@D@$B@#B@&P@#X@&r@$c@$H@v@5#r@5&l@#A@5&g@5)i@F@'%,v@'%)J@N@5+n@5,h@:.i@'>+O@'u@",
    "'9*k@R@55Y@$\\@&~@(\\@'&#g@'%<w@l@$v@$z@'&.|@#(2]@%;7r@]@#i@%;=c@%;6S@%K@'':h@v@''0[@$|@#A@''6j@''6U@+C",
    "@'C@B@$y@.F@x@'()I@''9P@8#T@8$n@'('}@'>(G@8*j@21p@24t@'(;U@(p@(#-^@P@8/I@')/u@(#;D@($#a@')2y@@@|@');G@",
    "')5N@81T@83e@&@@v@#y@85Z@(%4J@'*3|@+e@(@@9)h@~@9,B@'+2j@(&<U@(&>F@*Z@&J@'+6K@93^@95]@J@N@T@N@#K@',2B",
};
// ---- end of what dev/unicode.py wrote

typedef struct {
    uint32_t code, first, second;                 // code is the same as first, second; second 0: as first alone
} Split;

enum { PLACES = 8192 };
typedef struct Unicode {
    uint8_t byte[CODES];                          // class and rank of each character
    Split split[SPLITS];
    uint16_t place[PLACES];                       // hash table of splits, see split_place
} Unicode;

typedef struct {
    const char *const *line;
    const char *at;
} Packed;

// The next number: its last digit is one of 63 from '@' on, those before it are of 28 from '#' on.
static uint32_t unpack(Packed *p) {
    uint32_t v = 0;
    if (!*p->at) p->at = *++p->line;
    for (; *p->at < '@'; p->at++) v = 28 * v + (uint32_t)(*p->at - '#') + 1;
    return 63 * v + (uint32_t)(*p->at++ - '@');
}

// Runs of characters with a value of 1..kinds. A number holds the gap before the run and the value.
static void unpack_runs(Packed *p, uint8_t *byte, int shift) {
    uint32_t runs = unpack(p), kinds = unpack(p), at = 0;
    for (; runs > 0; runs--) {
        uint32_t v = unpack(p), end = at + v / kinds + 1 + unpack(p);
        for (at += v / kinds; at < end; at++) byte[at] = (uint8_t)((v % kinds + 1) << shift);
    }
}

// Length of the character at s (n > 0 bytes), and its code. A byte that begins no valid UTF-8 (RFC 3629) is a
// character by itself, of the code NONE: so any bytes at all are a string of characters.
static size_t utf8(const uint8_t *s, size_t n, uint32_t *code) {
    static const uint32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000};     // smaller codes have a shorter form
    uint32_t c = s[0];
    size_t len = c < 0xC0 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF8 ? 4 : 1;
    *code = c < 0x80 ? c : NONE;
    if (len == 1 || len > n) return 1;
    c &= 0x7Fu >> len;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80) return 1;
        c = c << 6 | (s[i] & 0x3Fu);
    }
    if (c < LEAST[len] || (c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF) return 1;
    *code = c;
    return len;
}

// Class of the character at s (n > 0 bytes), and its length.
static int class_of(const Unicode *u, const uint8_t *s, size_t n, size_t *len) {
    uint32_t code;
    *len = utf8(s, n, &code);
    return code < CODES ? u->byte[code] & 3 : OTHER;
}

// ---- pre-tokens -------------------------------------------------------------------------------------------
// GPT-2 cuts text with the regular expression
//     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// that is: contractions; runs of letters, of numbers, of others, each with one space before it, if any; and
// runs of white space, which leave their last character to what follows unless it is their only one. SmolLM
// first cuts every number character off as a piece of its own. What came later is cl100k_base's
//     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*
//     |\s*[\r\n]+|\s+(?!\S)|\s+
// which lets any other character before letters, few numbers together, and lines end with their line feeds;
// Qwen2's has \p{N} in place of \p{N}{1,3}.

// Length of the contraction at s (n > 0 bytes), 0: none. Of letters beyond ASCII only the long s, U+017F, is
// another letter's case.
static size_t contraction(const uint8_t *s, size_t n, bool any_case) {
    if (s[0] != '\'' || n < 2) return 0;
    uint8_t fold = any_case ? 0x20 : 0, a = s[1] | fold, b = n > 2 ? s[2] | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (any_case && n > 2 && s[1] == 0xC5 && s[2] == 0xBF) return 3;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

// Bytes of the characters of a class that s begins with, of at most `most` of them.
static size_t run(const Unicode *u, const uint8_t *s, size_t n, int class, size_t most) {
    size_t i = 0, len;
    for (; i < n && most > 0 && class_of(u, s + i, n - i, &len) == class; most--) i += len;
    return i;
}

// White space at s (n bytes): with `lines`, up to the last line feed of the run, if it has one. Otherwise all
// of it but the last character if something follows; before SmolLM's numbers all of it.
static size_t spaces(const Tokenizer *t, const uint8_t *s, size_t n) {
    size_t i = 0, last = 0, line = 0, len;
    int class = SPACE;
    while (i < n && (class = class_of(t->unicode, s + i, n - i, &len)) == SPACE) {
        last = i;
        i += len;
        if (s[last] == '\r' || s[last] == '\n') line = i;
    }
    if (line > 0 && (t->kind == TOK_CL100K || t->kind == TOK_QWEN2)) return line;
    return i < n && last > 0 && !(t->kind == TOK_SMOLLM && class == NUMBER) ? last : i;
}

// Length of the pre-token at s (n > 0 bytes): GPT-2's and SmolLM's.
static size_t pretoken_gpt2(const Tokenizer *t, const uint8_t *s, size_t n) {
    size_t len = contraction(s, n, false), i = s[0] == ' ' && n > 1;
    if (len) return len;
    int class = class_of(t->unicode, s + i, n - i, &len);
    if (class == SPACE) return spaces(t, s, n);
    if (class == NUMBER && t->kind == TOK_SMOLLM) return i ? i : len;
    return i + run(t->unicode, s + i, n - i, class, n);
}

// The same for cl100k_base and Qwen2.
static size_t pretoken_cl100k(const Tokenizer *t, const uint8_t *s, size_t n) {
    size_t len = contraction(s, n, true), first, i, end;
    if (len) return len;
    int class = class_of(t->unicode, s, n, &first);
    if (class == NUMBER) return run(t->unicode, s, n, NUMBER, t->kind == TOK_CL100K ? 3 : 1);
    i = class == LETTER || s[0] == '\r' || s[0] == '\n' ? 0 : first;
    if ((end = run(t->unicode, s + i, n - i, LETTER, n)) > 0) return i + end;
    i = s[0] == ' ';
    if ((end = run(t->unicode, s + i, n - i, OTHER, n)) == 0) return spaces(t, s, n);
    for (i += end; i < n && (s[i] == '\r' || s[i] == '\n'); i++) continue;
    return i;
}

static size_t pretoken(const Tokenizer *t, const uint8_t *s, size_t n) {
    bool later = t->kind == TOK_CL100K || t->kind == TOK_QWEN2;
    return later ? pretoken_cl100k(t, s, n) : pretoken_gpt2(t, s, n);
}

// ---- tables -----------------------------------------------------------------------------------------------
// Merging asks two hash tables with open addressing, which tokenizer_index makes:
//     t->slot          which merge joins left and right?        entries: its number + 1, 0: a free place
//     t->first + 256   which token has exactly these bytes?     entries: its id + 1, 0: a free place
// The second holds only tokens that can be told from their bytes alone. In front of it lie the ids (not + 1)
// of the tokens of the 256 single bytes. A search gives up after PROBES places: so no file can make it slow.

// The bytes of token id, which stay t's, and how many; none if there is no such token.
const uint8_t *tokenizer_decode(const Tokenizer *t, int32_t id, size_t *n) {
    bool known = id >= 0 && (uint32_t)id < t->vocab;
    *n = known ? t->start[id + 1] - t->start[id] : 0;
    return known ? t->bytes + t->start[id] : t->bytes;
}

static bool token_is(const Tokenizer *t, int32_t id, const uint8_t *s, size_t n) {
    size_t m;
    const uint8_t *bytes = tokenizer_decode(t, id, &m);
    return m == n && !memcmp(bytes, s, n);
}

// Order of two tokens by their bytes, as in a dictionary, and of equals by their ids: < 0, 0, > 0.
static int compare_tokens(const Tokenizer *t, int32_t a, int32_t b) {
    size_t n, m;
    const uint8_t *s = tokenizer_decode(t, a, &n), *r = tokenizer_decode(t, b, &m);
    int order = memcmp(s, r, n < m ? n : m);
    return order ? order : n != m ? (n > m) - (n < m) : (a > b) - (a < b);
}

// Places of a hash table for n entries: a power of two, at least twice as many.
static uint64_t places(uint64_t n) {
    uint64_t size = 2;
    while (size < 2 * n) size *= 2;
    return size;
}

static const uint64_t MIX = 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio: any bit changes the upper half

static uint32_t hash_pair(int32_t left, int32_t right) {
    uint64_t h = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    return (uint32_t)(h * MIX >> 32);
}

static uint32_t hash_bytes(const uint8_t *s, size_t n) {
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) h = (h ^ s[i]) * MIX;
    return (uint32_t)(h >> 32);
}

// The place of a pair in t->slot, or the free one where it belongs, or NONE: too many others are in the way.
static uint32_t pair_place(const Tokenizer *t, int32_t left, int32_t right) {
    uint32_t h = hash_pair(left, right);
    for (uint32_t i = 0; i < PROBES; i++) {
        uint32_t at = (h + i) & t->slotmask, m = t->slot[at];
        if (m == 0 || (t->merge[m - 1].left == left && t->merge[m - 1].right == right)) return at;
    }
    return NONE;
}

// The same for bytes in t->first.
static uint32_t word_place(const Tokenizer *t, const uint8_t *s, size_t n) {
    uint32_t h = hash_bytes(s, n);
    for (uint32_t i = 0; i < PROBES; i++) {
        uint32_t at = 256 + ((h + i) & t->firstmask), m = t->first[at];
        if (m == 0 || token_is(t, (int32_t)m - 1, s, n)) return at;
    }
    return NONE;
}

// The token in t->first that has these bytes, -1: none.
static int32_t find_word(const Tokenizer *t, const uint8_t *s, size_t n) {
    uint32_t at = word_place(t, s, n);
    return at == NONE ? -1 : (int32_t)t->first[at] - 1;
}

// ---- merging ----------------------------------------------------------------------------------------------
// Symbols, each a token, are a doubly linked list. A binary heap has a key for each pair of neighbours that a
// merge joins: its rank and, below it, its position, so that the smallest key is the leftmost pair of the
// smallest rank. A merge makes the keys of neighbours stale; they stay and are recognised when they come up.
// Of n symbols there are at most n - 1 keys at first, and n - 1 merges that each take one key and add two:
// never more than 2n keys, and O(n log n) steps for any text.
typedef struct {
    int32_t id;
    uint32_t prev, next;                          // neighbours, NONE at the ends
    uint32_t merge;                               // the merge that joins it to the next, NONE: none
} Symbol;

typedef struct {
    const Tokenizer *t;
    Symbol *symbol;                               // (n)
    uint64_t *heap;                               // (2n) no key i is smaller than its parent, (i - 1) / 2
    size_t keys;
} Merging;

static void heap_push(Merging *w, uint64_t key) {
    size_t i = w->keys++;
    while (i > 0 && w->heap[(i - 1) / 2] > key) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = key;
}

static uint64_t heap_pop(Merging *w) {
    uint64_t top = w->heap[0], last = w->heap[--w->keys];
    size_t i = 0;
    for (size_t child = 1; child < w->keys; child = 2 * i + 1) {
        if (child + 1 < w->keys && w->heap[child + 1] < w->heap[child]) child++;
        if (w->heap[child] >= last) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

// Symbol i or its next one is new: which merge joins them?
static void look_up(Merging *w, uint32_t i) {
    Symbol *s = &w->symbol[i];
    s->merge = NONE;
    if (s->next == NONE) return;
    uint32_t at = pair_place(w->t, s->id, w->symbol[s->next].id);
    if (at == NONE || w->t->slot[at] == 0) return;
    s->merge = w->t->slot[at] - 1;
    heap_push(w, (uint64_t)w->t->merge[s->merge].rank << 32 | i);
}

// Byte-level: the symbols that n bytes begin as. Bytes that are no tokens are left out.
static uint32_t byte_symbols(const Tokenizer *t, const uint8_t *s, size_t n, Symbol *symbol) {
    uint32_t count = 0;
    for (size_t k = 0; k < n; k++)
        if (t->first[s[k]] != NONE) symbol[count++].id = (int32_t)t->first[s[k]];
    return count;
}

// Merges n symbols, of which only the ids are set; writes those that remain to out and returns how many.
// Scratch: the symbols, and the heap (2n).
static size_t merge(const Tokenizer *t, Symbol *symbol, uint32_t n, uint64_t *heap, int32_t *out) {
    Merging w = {t, symbol, heap, 0};
    for (uint32_t i = 0; i < n; i++) {
        symbol[i].prev = i > 0 ? i - 1 : NONE;
        symbol[i].next = i < n - 1 ? i + 1 : NONE;
    }
    for (uint32_t i = 0; i < n; i++) look_up(&w, i);
    while (w.keys > 0) {
        uint64_t key = heap_pop(&w);
        uint32_t i = (uint32_t)key;
        Symbol *left = &symbol[i];
        if (left->merge == NONE || t->merge[left->merge].rank != key >> 32) continue;    // stale
        Symbol *right = &symbol[left->next];
        right->merge = NONE;                      // gone
        left->id = t->merge[left->merge].result;
        left->next = right->next;
        if (left->next != NONE) symbol[left->next].prev = i;
        look_up(&w, i);
        if (left->prev != NONE) look_up(&w, left->prev);
    }
    size_t count = 0;
    for (uint32_t i = n > 0 ? 0 : NONE; i != NONE; i = symbol[i].next) out[count++] = symbol[i].id;
    return count;
}

// ---- form NFC ---------------------------------------------------------------------------------------------
// What looks alike and means the same may be written in several ways: e with an acute accent is one character or
// two. Form NFC (Unicode Standard Annex 15) is one way for each: all is split as far as the tables say, marks
// after a character are put in the order of their ranks, and then joined with it as far as nothing stands
// between: of the marks that stay, none of the same rank. Only at marks and ACTIVE characters can this change
// something; so only they are taken, each run together with the character before it.

static uint32_t rank_of(const Unicode *u, uint32_t code) {
    return code < CODES ? u->byte[code] >> RANK_SHIFT : 0;
}

// The place in u->place of the split of `first`, when second is NONE: an entry is the split's number + 1. Or that
// of the split into first and second, if these are ever joined: SPLITS more. Or the free one where it belongs.
static uint16_t *split_place(Unicode *u, uint32_t first, uint32_t second) {
    uint32_t h = hash_pair((int32_t)first, (int32_t)second) % PLACES, i;
    for (; (i = u->place[h]) != 0; h = (h + 1) % PLACES) {
        const Split *p = &u->split[(i - 1) % SPLITS];
        if (i <= SPLITS ? second == NONE && p->code == first : p->first == first && p->second == second) break;
    }
    return &u->place[h];
}

static const Split *split_of(const Unicode *u, uint32_t first, uint32_t second) {
    uint32_t i = *split_place((Unicode *)u, first, second);
    return i > 0 ? &u->split[(i - 1) % SPLITS] : NULL;
}

// The character that two become, NONE: they stay two. Hangul's syllables are counted: 28 for each pair of
// leading consonant and vowel, the first of them without a trailing consonant.
static uint32_t joined(const Unicode *u, uint32_t first, uint32_t second) {
    uint32_t lead = first - 0x1100, vowel = second - 0x1161, syllable = first - 0xAC00, trail = second - 0x11A7;
    if (lead < 19 && vowel < 21) return 0xAC00 + (lead * 21 + vowel) * 28;
    if (syllable < 11172 && syllable % 28 == 0 && trail > 0 && trail < 28) return first + trail;
    const Split *split = split_of(u, first, second);
    return split ? split->code : NONE;
}

// From PACKED into cleared memory.
static void unpack_unicode(Unicode *u) {
    Packed p = {PACKED, PACKED[0]};
    uint32_t key[SECONDS], code = 0, first = 0;
    unpack_runs(&p, u->byte, 0);
    unpack_runs(&p, u->byte, RANK_SHIFT);
    for (int i = 0; i < SECONDS; i++) key[i] = unpack(&p);
    for (uint16_t i = 0; i < SPLITS; i++, code++) {
        uint32_t v = unpack(&p), step = unpack(&p), second = key[v % SECONDS] / 2;
        bool never = key[v % SECONDS] % 2;        // these two are not joined
        code += v / SECONDS;
        first += step % 2 ? 0 - (step + 1) / 2 : step / 2;
        u->split[i].code = code;
        u->split[i].first = first;
        u->split[i].second = second;
        *split_place(u, code, NONE) = (uint16_t)(i + 1);
        if (!never) *split_place(u, first, second) = (uint16_t)(SPLITS + i + 1);
        uint8_t *byte = &u->byte[never ? code : second];
        if (*byte >> RANK_SHIFT == 0) *byte |= ACTIVE << RANK_SHIFT;
    }
    for (code = 0x1161; code < 0x1176; code++) u->byte[code] |= ACTIVE << RANK_SHIFT;    // Hangul's vowels
    for (code = 0x11A8; code < 0x11C3; code++) u->byte[code] |= ACTIVE << RANK_SHIFT;    // trailing consonants
}

typedef struct {
    const Unicode *u;
    uint8_t *out;                                 // text in form NFC, and how many bytes so far; behind it come
    size_t bytes;
    uint32_t base;                                // the last character that is no mark, NONE: none
    uint32_t *mark;                               // marks after it that are in order, and stay
    size_t marks, pushed;
    Merging heap;                                 // other marks; the lowest bits are the code
} Normal;

static void put(Normal *w, uint32_t code) {
    static const uint8_t LEAD[] = {0, 0xC0, 0xE0, 0xF0};
    int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    w->out[w->bytes++] = (uint8_t)(LEAD[more] | code >> 6 * more);
    while (more-- > 0) w->out[w->bytes++] = (uint8_t)(0x80 | (code >> 6 * more & 0x3F));
}

// Adds a character that is not split any further; NONE: the end. One that is no mark settles those before it.
static void add_part(Normal *w, uint32_t code) {
    uint64_t rank = rank_of(w->u, code), last = 0;
    if (rank > 0 && rank < ACTIVE) {
        heap_push(&w->heap, rank << 53 | (uint64_t)w->pushed++ << 21 | code);
        return;
    }
    while (w->heap.keys > 0) {
        uint64_t key = heap_pop(&w->heap);
        uint32_t mark = key & 0x1FFFFF, both = key >> 53 > last ? joined(w->u, w->base, mark) : NONE;
        if (both != NONE) w->base = both;
        else w->mark[w->marks++] = mark, last = key >> 53;
    }
    uint32_t both = w->marks == 0 && code != NONE ? joined(w->u, w->base, code) : NONE;
    if (both == NONE && w->base != NONE) put(w, w->base);
    for (size_t i = 0; i < w->marks; i++) put(w, w->mark[i]);
    w->marks = 0;
    w->base = both != NONE ? both : code;
}

// No character is more than four, and only the first of two is split again: dev/unicode.py checks that.
static void add_character(Normal *w, uint32_t code) {
    uint32_t part[3];
    int parts = 0;
    for (const Split *p; (p = split_of(w->u, code, NONE)) != NULL; code = p->first)
        if (p->second) part[parts++] = p->second;
    add_part(w, code);
    while (parts > 0) add_part(w, part[--parts]);
}

// *n bytes in form NFC, and their number: s itself if nothing is to be done, else out (3n). What is no UTF-8
// stays as it is. heap: scratch (3n).
static const uint8_t *normal_form(const Unicode *u, const uint8_t *s, size_t *n, uint8_t *out, uint64_t *heap) {
    Normal w = {u, out, 0, NONE, (uint32_t *)(heap + 2 * *n), 0, 0, {NULL, NULL, heap, 0}};
    size_t done = 0, start = 0, len;              // s[0..done) is in out; at start the last character begins
    uint32_t code;
    uint8_t top = 0;
    for (size_t i = 0; i < *n; i++) if (s[i] > top) top = s[i];
    if (top < 0xCC) return s;                     // active characters begin at U+0300, which is CC 80
    for (size_t i = 0; i < *n; i += len) {
        len = utf8(s + i, *n - i, &code);
        if (rank_of(u, code) == 0) {
            start = code == NONE ? i + len : i;
            continue;
        }
        memcpy(out + w.bytes, s + done, start - done);
        w.bytes += start - done;
        for (i = start; i < *n; i += len) {
            len = utf8(s + i, *n - i, &code);
            if (i > start && rank_of(u, code) == 0) break;
            add_character(&w, code);
        }
        add_part(&w, NONE);
        done = start = i;
        len = 0;
    }
    if (done == 0) return s;
    memcpy(out + w.bytes, s + done, *n - done);
    *n = w.bytes + *n - done;
    return out;
}

// ---- special tokens ---------------------------------------------------------------------------------------
// t->special is sorted by bytes, so that special tokens which begin alike are neighbours, and a binary search
// for each byte of the text narrows them down.

// Of t->special[lo..hi), which agree in their first i bytes, the first whose next byte is at least `byte`.
static uint32_t special_from(const Tokenizer *t, uint32_t lo, uint32_t hi, size_t i, int byte) {
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        size_t n;
        const uint8_t *s = tokenizer_decode(t, t->special[mid], &n);
        if (i < n && s[i] >= byte) hi = mid;
        else lo = mid + 1;
    }
    return lo;
}

// The longest special token at s (n bytes), -1: none.
static int32_t special_at(const Tokenizer *t, const uint8_t *s, size_t n) {
    int32_t longest = -1;
    uint32_t lo = 0, hi = t->specials;            // those that begin with the first i bytes of s
    for (size_t i = 0; i < n && lo < hi; i++) {
        lo = special_from(t, lo, hi, i, s[i]);
        hi = special_from(t, lo, hi, i, s[i] + 1);
        if (lo < hi && token_is(t, t->special[lo], s, i + 1)) longest = t->special[lo];
    }
    return longest;
}

// The special token that is this text, -1: none.
int32_t tokenizer_find(const Tokenizer *t, const char *special) {
    const uint8_t *s = (const uint8_t *)special;
    size_t n = strlen(special);
    int32_t id = special_at(t, s, n);
    return id >= 0 && token_is(t, id, s, n) ? id : -1;
}

// ---- index ------------------------------------------------------------------------------------------------

// Three arrays of 4-byte numbers: slot, first, special; then the Unicode tables.
size_t tokenizer_index_size(uint32_t vocab, uint32_t merges) {
    return to_size(4 * (places(merges) + (256 + places(vocab)) + vocab) + sizeof(Unicode));
}

// Counts, ids, starts and flags, in an order in which nothing is used before it is checked.
static int check_tokens(const Tokenizer *t, Fault *f) {
    bool none = t->kind == TOK_NONE;
    int64_t vocab = t->vocab;
    if (check(f, "tokenizer: kind", (int64_t)t->kind, TOK_NONE, TOK_KINDS - 1) ||
        check(f, "tokenizer: tokens", vocab, none ? 0 : 256, none ? 0 : VOCAB_MAX) ||
        check(f, "tokenizer: merges", t->merges, 0, none ? 0 : MERGES_MAX) ||
        check(f, "tokenizer: end-of-text id", t->eot, -1, vocab - 1) ||
        check(f, "tokenizer: begin-of-text id", t->bos, -1, vocab - 1) ||
        (!none && check(f, "tokenizer: start of the first token", t->start[0], 0, 0)))
        return -1;
    int flags = t->kind == TOK_SCORED ? TOKEN_BYTE : TOKEN_SPECIAL;
    const int64_t least[] = {1, 0, 1}, most[] = {UINT32_MAX, SPECIAL_BYTES, 1};    // bytes, by flag
    for (uint32_t i = 0; i < t->vocab; i++) {
        uint32_t from = t->start[i], to = t->start[i + 1];
        if (check(f, "tokenizer: flag of a token", t->flag[i], 0, flags) ||
            check(f, "tokenizer: end of a token", to, from, UINT32_MAX) ||
            check(f, "tokenizer: bytes of a token", to - from, least[t->flag[i]], most[t->flag[i]]))
            return -1;
    }
    const int32_t ends[] = {t->eot, t->bos};      // what nobody's text may become
    static const char *const NAME[] = {"tokenizer: flag of end-of-text", "tokenizer: flag of begin-of-text"};
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0 && check(f, NAME[i], t->flag[ends[i]], TOKEN_SPECIAL, TOKEN_SPECIAL)) return -1;
    return 0;
}

// Are merge m's tokens there, none of them special, and is its result left followed by right?
static bool is_sound(const Tokenizer *t, const Merge *m) {
    const int32_t id[3] = {m->left, m->right, m->result};
    const uint8_t *s[3];
    size_t n[3];
    for (int i = 0; i < 3; i++) {
        if (id[i] < 0 || (uint32_t)id[i] >= t->vocab || t->flag[id[i]] == TOKEN_SPECIAL) return false;
        s[i] = tokenizer_decode(t, id[i], &n[i]);
    }
    if (n[0] > n[2] || n[1] != n[2] - n[0]) return false;
    return !memcmp(s[2], s[0], n[0]) && !memcmp(s[2] + n[0], s[1], n[1]);
}

// t->slot: all merges. A fault tells how many were sound, the next one being wrong or there twice.
static int index_merges(const Tokenizer *t, uint32_t *slot, Fault *f) {
    for (uint32_t i = 0; i < t->merges; i++) {
        const Merge *m = &t->merge[i];
        uint32_t at = is_sound(t, m) ? pair_place(t, m->left, m->right) : NONE;
        if (at == NONE || slot[at]) return check(f, "tokenizer: sound merges", i, t->merges, t->merges);
        slot[at] = i + 1;
    }
    return 0;
}

// t->first[0..255]: the single bytes. Byte-level vocabularies may lack some, which t->missing counts.
static int index_bytes(Tokenizer *t, uint32_t *first, Fault *f) {
    uint32_t found = 0;
    int flag = t->kind == TOK_SCORED ? TOKEN_BYTE : TOKEN_NORMAL;
    for (uint32_t i = t->vocab; i-- > 0;) {       // downwards: of equal tokens the smallest id remains
        uint32_t at = t->start[i];
        if (t->flag[i] != flag || t->start[i + 1] - at != 1) continue;
        found += first[t->bytes[at]] == NONE;
        first[t->bytes[at]] = i;
    }
    t->missing = 256 - found;
    return check(f, "tokenizer: single bytes that are tokens", found, t->kind == TOK_SCORED ? 256 : 1, 256);
}

// Can token i be told from its bytes alone? TOK_SCORED: if they are one character, which then begins as it.
// TOK_CL100K: always. Else if they merge to it; so a common pre-token costs one search instead of several for
// each byte.
static bool is_word(const Tokenizer *t, int32_t i) {
    Symbol symbol[WORD_BYTES];
    uint64_t heap[2 * WORD_BYTES];
    int32_t out[WORD_BYTES];
    uint32_t code;
    size_t n;
    const uint8_t *s = tokenizer_decode(t, i, &n);
    if (t->flag[i] != TOKEN_NORMAL) return false;
    if (t->kind == TOK_CL100K) return true;
    if (t->kind == TOK_SCORED) return utf8(s, n, &code) == n && code != NONE;
    return n <= WORD_BYTES && merge(t, symbol, byte_symbols(t, s, n, symbol), heap, out) == 1 && out[0] == i;
}

// t->first[256..]: the tokens that can be told from their bytes; of equal ones the smallest id.
static int index_words(const Tokenizer *t, uint32_t *first, Fault *f) {
    for (int32_t i = 0; i < (int32_t)t->vocab; i++) {
        if (!is_word(t, i)) continue;
        size_t n;
        const uint8_t *s = tokenizer_decode(t, i, &n);
        uint32_t at = word_place(t, s, n);
        if (at == NONE) return check(f, "tokenizer: tokens whose hashes differ", i, t->vocab, t->vocab);
        if (first[at] == 0) first[at] = (uint32_t)i + 1;
    }
    return 0;
}

// t->special: all but empty ones, which only fill a vocabulary. Shell's sort with Knuth's gaps 1, 4, 13, ...
static int index_specials(Tokenizer *t, int32_t *special, Fault *f) {
    uint32_t n = 0, gap = 1;
    for (uint32_t i = 0; i < t->vocab; i++)
        if (t->flag[i] == TOKEN_SPECIAL && t->start[i + 1] > t->start[i]) special[n++] = (int32_t)i;
    while (gap < n / 3) gap = 3 * gap + 1;
    for (; gap > 0 && n <= SPECIALS_MAX; gap /= 3) {
        for (uint32_t i = gap; i < n; i++) {
            int32_t id = special[i];
            uint32_t at = i;
            for (; at >= gap && compare_tokens(t, special[at - gap], id) > 0; at -= gap)
                special[at] = special[at - gap];
            special[at] = id;
        }
    }
    t->specials = n;
    return check(f, "tokenizer: special tokens", n, 0, SPECIALS_MAX);
}

// memory: tokenizer_index_size bytes, 4-byte aligned, the caller's; t needs it from now on. The caller
// warrants that the arrays are as long as vocab, merges and start[vocab] say. Errors: any number in them.
int tokenizer_index(Tokenizer *t, void *memory, Fault *f) {
    if (check_tokens(t, f)) return -1;
    uint32_t *slot = memory, *first = slot + places(t->merges);
    int32_t *special = (int32_t *)(first + 256 + places(t->vocab));
    memset(memory, 0, tokenizer_index_size(t->vocab, t->merges));
    memset(first, 0xFF, 256 * sizeof *first);
    t->slot = slot;
    t->slotmask = (uint32_t)places(t->merges) - 1;
    t->first = first;
    t->firstmask = (uint32_t)places(t->vocab) - 1;
    t->special = special;
    t->specials = 0;
    t->unicode = NULL;
    if (t->kind == TOK_NONE) return 0;
    if (t->kind != TOK_SCORED) {
        Unicode *u = (Unicode *)(special + t->vocab);
        unpack_unicode(u);
        t->unicode = u;
    }
    if (index_bytes(t, first, f) || index_merges(t, slot, f) || index_words(t, first, f)) return -1;
    return index_specials(t, special, f);
}

// ---- encode -----------------------------------------------------------------------------------------------

// An id for each byte and one for add_space. The longest that form NFC makes of a text is three times as long.
size_t tokenizer_most(const Tokenizer *t, size_t n) {
    return n > TEXT_MAX ? SIZE_MAX : to_size((t->kind == TOK_QWEN2 ? 3 : 1) * (uint64_t)n + 1);
}

// Bytes at the front of the scratch for the text in form NFC, a multiple of 8.
static size_t normal_room(const Tokenizer *t, size_t n) {
    return t->kind == TOK_QWEN2 ? (3 * n + 7) / 8 * 8 : 0;
}

// Scratch for the worst case, a text that is one pre-token; what short ones do not need is not touched.
size_t tokenizer_encode_size(const Tokenizer *t, size_t n) {
    uint64_t most = tokenizer_most(t, n);
    return most > NONE ? SIZE_MAX : to_size(normal_room(t, n) + most * (sizeof(Symbol) + 2 * sizeof(uint64_t)));
}

// Byte-level: each pre-token by itself, most of them found whole.
static size_t encode_words(const Tokenizer *t, const uint8_t *s, size_t n, int32_t *out, Symbol *symbol) {
    size_t count = 0, len;
    for (size_t i = 0; i < n; i += len) {
        len = pretoken(t, s + i, n - i);
        int32_t id = len <= WORD_BYTES || t->kind == TOK_CL100K ? find_word(t, s + i, len) : -1;
        if (id >= 0) out[count++] = id;
        else count += merge(t, symbol, byte_symbols(t, s + i, len, symbol), (uint64_t *)(symbol + len), out + count);
    }
    return count;
}

// TOK_SCORED: the symbols that n bytes begin as: each character's token or, if there is none, its bytes'. U+2581
// is a space, which such vocabularies have it stand for.
static uint32_t characters(const Tokenizer *t, const uint8_t *s, size_t n, Symbol *symbol) {
    uint32_t count = 0, code;
    size_t len;
    for (size_t i = 0; i < n; i += len) {
        len = utf8(s + i, n - i, &code);
        int32_t id = code == 0x2581 ? find_word(t, (const uint8_t *)" ", 1) : find_word(t, s + i, len);
        if (id >= 0) symbol[count++].id = id;
        else for (size_t k = 0; k < len; k++) symbol[count++].id = (int32_t)t->first[s[i + k]];
    }
    return count;
}

// n <= TEXT_MAX bytes of text; out (tokenizer_most); scratch: tokenizer_encode_size, 8-byte aligned; all of it
// the caller's. add_space puts its space before the first text that is not a special token.
size_t tokenizer_encode(const Tokenizer *t, const uint8_t *text, size_t n, bool special, int32_t *out,
                        void *scratch) {
    bool begins[256] = {false};                   // does a special token begin with this byte?
    for (uint32_t i = 0; special && i < t->specials; i++) begins[t->bytes[t->start[t->special[i]]]] = true;
    bool space = t->add_space;
    Symbol *symbol = (Symbol *)(void *)((uint8_t *)scratch + normal_room(t, n));
    size_t count = 0, stop, len;
    for (size_t i = 0; i < n; i = stop + len) {   // text[i..stop) is plain, then comes the special token id
        int32_t id = -1;
        for (stop = i; stop < n; stop++)
            if (begins[text[stop]] && (id = special_at(t, text + stop, n - stop)) >= 0) break;
        if (stop > i && t->kind != TOK_SCORED && t->kind != TOK_NONE) {
            const uint8_t *s = text + i;
            size_t m = stop - i;
            if (t->kind == TOK_QWEN2) s = normal_form(t->unicode, s, &m, scratch, (uint64_t *)symbol);
            count += encode_words(t, s, m, out + count, symbol);
        }
        if (stop > i && t->kind == TOK_SCORED) {
            uint32_t m = space ? characters(t, (const uint8_t *)" ", 1, symbol) : 0;
            m += characters(t, text + i, stop - i, symbol + m);
            count += merge(t, symbol, m, (uint64_t *)(symbol + m), out + count);
            space = false;
        }
        tokenizer_decode(t, id, &len);
        if (id >= 0) out[count++] = id;
    }
    return count;
}

// ---- train ------------------------------------------------------------------------------------------------
// Only distinct pre-tokens are kept, as pieces in one array, at first a piece for each byte. A piece weighs
// as much as the text has copies of its pre-token. The places of a pair of neighbours form a ring, from left
// to right, which the pair's record enters at the leftmost: so a merge touches only its places and their
// neighbours.
//
// Two facts keep this small. All places of a pair arise in one merge, that of its newer token: so in that
// merge its other token tells it from all other pairs, and its ring, which grows from left to right, is in
// order. And no two pairs give the same bytes: where such bytes begin and end at borders of pieces, nothing
// outside was merged into them, so they are split alike everywhere, and the first pair to give them took all
// these places.
typedef struct {
    int32_t id;                                   // its token
    uint32_t prev, next;                          // neighbours in the pre-token, NONE at its ends
    uint32_t weight;
    uint32_t pair;                                // the pair that it forms with the next piece, NONE: none
    uint32_t before, after;                       // the places around this one in the pair's ring
} Piece;

typedef struct {
    uint32_t weight;                              // of all its places; 0: a spare record
    uint32_t place;                               // the leftmost piece; of a spare record: the next spare one
} Pair;

typedef struct {
    Tokenizer *t;                                 // what was learned so far; its arrays, for writing:
    uint32_t *start;
    uint8_t *bytes, *flag;
    Merge *merge;
    Piece *piece;                                 // (n)
    Pair *pair;                                   // (n) no more, since every pair has a place
    Unicode *unicode;
    uint32_t *filed;                              // where a pair's record was last seen; see file_pair
    uint32_t *word, wordmask;                     // hash table: pre-token -> its first piece + 1, 0: free
    uint32_t pieces, pairs, spare;                // pieces, records in use; the first spare record or NONE
} Training;

// The next `bytes` of the caller's memory, or NULL while the size is only being counted.
static void *part(void *memory, uint64_t *size, uint64_t bytes) {
    void *at = memory ? (uint8_t *)memory + *size : NULL;
    *size += bytes;
    return at;
}

// n <= TEXT_MAX and vocab <= VOCAB_MAX: the size is below 2^38. What must be cleared comes first.
static uint64_t train_parts(Training *w, uint64_t n, uint64_t vocab, void *memory) {
    uint64_t size = 0;
    w->filed = part(memory, &size, 4 * (vocab < 32768 ? 65536 : 2 * vocab));
    w->word = part(memory, &size, 4 * places(n / 8));
    w->wordmask = (uint32_t)places(n / 8) - 1;
    w->unicode = part(memory, &size, sizeof *w->unicode);
    w->start = part(memory, &size, 4 * (vocab + 1));
    w->merge = part(memory, &size, vocab * sizeof(Merge));
    w->piece = part(memory, &size, n * sizeof(Piece));
    w->pair = part(memory, &size, n * sizeof(Pair));
    w->bytes = part(memory, &size, vocab * LEARNED_BYTES);
    w->flag = part(memory, &size, vocab);
    return size;
}

// About 40 bytes for each byte of text, few of which are touched: text repeats itself.
size_t tokenizer_train_size(size_t n, uint32_t vocab) {
    Training w;
    return n > TEXT_MAX || vocab > VOCAB_MAX ? SIZE_MAX : to_size(train_parts(&w, n, vocab, NULL));
}

// Is the pre-token whose first piece is p these n bytes? Before any merge, when each piece is a byte.
static bool word_is(const Training *w, uint32_t p, const uint8_t *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (w->piece[p + i].id != s[i] || (w->piece[p + i].next == NONE) != (i == n - 1)) return false;
    return true;
}

// Counts one more pre-token. If too many others are in the way, it is listed twice, which changes no sum.
static void add_word(Training *w, const uint8_t *s, size_t n) {
    uint32_t h = hash_bytes(s, n), p = w->pieces;
    for (uint32_t i = 0; i < PROBES; i++) {
        uint32_t *place = &w->word[(h + i) & w->wordmask];
        if (*place == 0) {
            *place = p + 1;
            break;
        }
        if (word_is(w, *place - 1, s, n)) {
            w->piece[*place - 1].weight++;
            return;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        Piece new = {s[i], i > 0 ? p + i - 1 : NONE, i < n - 1 ? p + i + 1 : NONE, 1, NONE, NONE, NONE};
        w->piece[p + i] = new;
    }
    w->pieces += (uint32_t)n;
}

// Counts the pre-tokens of a text. An end-of-text in it separates, and is not learned from.
static void add_text(Training *w, const uint8_t *s, size_t n) {
    size_t end = sizeof END_OF_TEXT - 1, stop, len;
    for (size_t i = 0; i < n; i = stop + end) {
        for (stop = i; stop < n; stop++)
            if (n - stop >= end && !memcmp(s + stop, END_OF_TEXT, end)) break;
        for (; i < stop; i += len) {
            len = pretoken(w->t, s + i, stop - i);
            add_word(w, s + i, len);
        }
    }
}

static bool pair_is(const Training *w, uint32_t q, int32_t left, int32_t right) {
    if (q >= w->pairs || w->pair[q].weight == 0) return false;
    const Piece *p = &w->piece[w->pair[q].place];
    return p->id == left && w->piece[p->next].id == right;
}

// Piece p and the next one are a pair from now on. If it has a record already, that was filed under this key;
// but nothing is ever taken out of the file: whether the record is this pair's shows in the record alone.
static void file_pair(Training *w, uint32_t p, size_t key) {
    Piece *left = &w->piece[p], *right = &w->piece[left->next];
    size_t n, m;
    tokenizer_decode(w->t, left->id, &n);
    tokenizer_decode(w->t, right->id, &m);
    if (n + m > LEARNED_BYTES) return;
    uint32_t q = w->filed[key];
    if (pair_is(w, q, left->id, right->id)) {
        left->after = w->pair[q].place;           // the ring: behind the last place is the leftmost
        left->before = w->piece[left->after].before;
        w->piece[left->before].after = w->piece[left->after].before = p;
    } else {
        q = w->spare;
        if (q == NONE) q = w->pairs++;
        else w->spare = w->pair[q].place;
        w->filed[key] = q;
        w->pair[q].weight = 0;
        w->pair[q].place = left->before = left->after = p;
    }
    w->pair[q].weight += left->weight;
    left->pair = q;
}

// Piece p no longer forms the pair that it formed, if any.
static void drop_pair(Training *w, uint32_t p) {
    Piece *piece = &w->piece[p];
    uint32_t q = piece->pair;
    if (q == NONE) return;
    piece->pair = NONE;
    w->piece[piece->before].after = piece->after;
    w->piece[piece->after].before = piece->before;
    if (w->pair[q].place == p) w->pair[q].place = piece->after;
    w->pair[q].weight -= piece->weight;
    if (w->pair[q].weight > 0) return;
    w->pair[q].place = w->spare;
    w->spare = q;
}

// The heaviest pair; of equals the one whose bytes, left's, then right's, sort last. NONE: none occurs twice.
static uint32_t best_pair(const Training *w) {
    uint32_t best = NONE, weight = 2;
    for (uint32_t q = 0; q < w->pairs; q++) {
        if (w->pair[q].weight < weight) continue;
        if (w->pair[q].weight == weight && best != NONE) {
            const Piece *a = &w->piece[w->pair[q].place], *b = &w->piece[w->pair[best].place];
            int order = compare_tokens(w->t, a->id, b->id);
            if (order == 0) order = compare_tokens(w->t, w->piece[a->next].id, w->piece[b->next].id);
            if (order < 0) continue;
        }
        best = q;
        weight = w->pair[q].weight;
    }
    return best;
}

// A new token: n bytes, then m more.
static int32_t add_token(Training *w, const uint8_t *s, size_t n, const uint8_t *r, size_t m, uint8_t flag) {
    uint32_t id = w->t->vocab++;
    memcpy(w->bytes + w->start[id], s, n);
    memcpy(w->bytes + w->start[id] + n, r, m);
    w->start[id + 1] = w->start[id] + (uint32_t)(n + m);
    w->flag[id] = flag;
    return (int32_t)id;
}

// Makes pair q a token and merges it wherever it is, from left to right: of "aaa" the first two. The pairs of
// the new token are filed by their other one: from 0 on if that comes before it, from vocab on if behind.
static void learn(Training *w, uint32_t q, uint32_t vocab) {
    Piece *piece = w->piece;
    uint32_t p = w->pair[q].place;
    int32_t left = piece[p].id, right = piece[piece[p].next].id;
    size_t n, m;
    const uint8_t *s = tokenizer_decode(w->t, left, &n), *r = tokenizer_decode(w->t, right, &m);
    Merge new = {left, right, add_token(w, s, n, r, m, TOKEN_NORMAL), w->t->merges};
    w->merge[w->t->merges++] = new;
    while (pair_is(w, q, left, right)) {          // when its last place is gone, the record may be another's
        p = w->pair[q].place;
        uint32_t gone = piece[p].next, prev = piece[p].prev, next = piece[gone].next;
        drop_pair(w, p);
        drop_pair(w, gone);
        if (prev != NONE) drop_pair(w, prev);
        piece[p].id = new.result;
        piece[p].next = next;
        if (next != NONE) piece[next].prev = p;
        if (next != NONE) file_pair(w, p, vocab + (size_t)piece[next].id);
        if (prev != NONE) file_pair(w, prev, (size_t)piece[prev].id);
    }
}

// memory: tokenizer_train_size(n, vocab) bytes, 8-byte aligned, the caller's; t's arrays lie in it. t is of
// kind TOK_GPT2; it decodes at once, and encodes after tokenizer_index. Errors: n, vocab.
int tokenizer_train(Tokenizer *t, const uint8_t *text, size_t n, uint32_t vocab, void *memory, Fault *f) {
    if (check(f, "tokenizer: bytes to learn from", n < INT64_MAX ? (int64_t)n : INT64_MAX, 0, TEXT_MAX) ||
        check(f, "tokenizer: tokens to learn", vocab, 257, VOCAB_MAX)) return -1;
    Training w = {.t = t, .spare = NONE};
    train_parts(&w, n, vocab, memory);
    memset(memory, 0, (size_t)((uint8_t *)w.start - (uint8_t *)memory));
    w.start[0] = 0;
    unpack_unicode(w.unicode);
    Tokenizer empty = {.kind = TOK_GPT2, .eot = -1, .bos = -1,
                       .bytes = w.bytes, .start = w.start, .flag = w.flag, .merge = w.merge,
                       .unicode = w.unicode};
    *t = empty;
    for (int i = 0; i < 256; i++) {
        uint8_t byte = (uint8_t)i;
        add_token(&w, &byte, 1, &byte, 0, TOKEN_NORMAL);
    }
    add_text(&w, text, n);
    for (uint32_t p = 0; p < w.pieces; p++) {     // a pre-token was counted at its first piece
        Piece *piece = &w.piece[p];
        if (piece->prev != NONE) piece->weight = w.piece[piece->prev].weight;
        if (piece->next != NONE) file_pair(&w, p, (size_t)(256 * piece->id + w.piece[piece->next].id));
    }
    for (uint32_t q; t->vocab < vocab - 1 && (q = best_pair(&w)) != NONE;) learn(&w, q, vocab);
    const uint8_t *end = (const uint8_t *)END_OF_TEXT;
    t->eot = add_token(&w, end, sizeof END_OF_TEXT - 1, end, 0, TOKEN_SPECIAL);
    return 0;
}
